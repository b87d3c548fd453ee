"""Programs of Debian packages, unpacked into a folder: nothing is installed, and nobody has to be root."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path


def unpack(packages: Sequence[str], folder: Path) -> None:
    """Have the packages' files below `folder`, without what they depend on. Raises SystemExit where that fails.

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
        own = {"Dir::State": "state", "Dir::Cache": "cache"}
        options = [f"-o{name}={work}/{part}" for name, part in own.items()]
        # The sandbox is another user, who may not write into a folder of ours.
        apt = ["apt-get", "-qq", *options, "-oDir::State::status=/var/lib/dpkg/status", "-oAPT::Sandbox::User="]
        _run([*apt, "update"], work)
        _run([*apt, "download", *missing], work)
        for archive in Path(work).glob("*.deb"):
            _run(["dpkg-deb", "--extract", str(archive), str(folder.resolve())], work)


def _run(command: list[str], folder: str) -> None:
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{ended.stdout}{ended.stderr}this failed: {' '.join(command)}")
