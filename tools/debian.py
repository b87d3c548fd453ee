"""Programs of Debian packages, unpacked into a folder: nothing is installed, and nobody has to be root."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path


def unpack(packages: Sequence[str], folder: Path) -> None:
    """Have the packages' files below `folder`, without what they depend on; says so where that cannot be.

    Does nothing where they are there, and on a system without apt: who needs them there installs them.
    """
    missing = [one for one in packages if not (folder / "usr/share/doc" / one).exists()]
    if not missing or shutil.which("apt-get") is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    print(f"unpacking {', '.join(missing)} into {folder}", flush=True)
    with tempfile.TemporaryDirectory() as work:
        for part in ("state/lists/partial", "cache/archives/partial"):
            (Path(work) / part).mkdir(parents=True)
        # apt's sandbox is another user, who may not write into a folder of ours.
        own = {
            "Dir::State": f"{work}/state",
            "Dir::State::status": "/var/lib/dpkg/status",
            "Dir::Cache": f"{work}/cache",
            "APT::Sandbox::User": "",
            "Acquire::Retries": "3",
        }
        apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in own.items())]
        try:
            for command in ([*apt, "update"], [*apt, "download", *missing]):
                subprocess.run(command, cwd=work, capture_output=True, text=True, check=True)
            for archive in Path(work).glob("*.deb"):
                extract = ["dpkg-deb", "--extract", str(archive), str(folder.resolve())]
                subprocess.run(extract, capture_output=True, text=True, check=True)
        except subprocess.CalledProcessError as failed:
            print(f"{failed.stderr}{' '.join(failed.cmd)} failed: tests that need it are skipped", flush=True)
