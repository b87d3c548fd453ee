#!/usr/bin/env python3
"""Create a virtual environment and install this project into it, for the GPU or the CPU, whichever is here.

install.py VENV [EXTRA ...]
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
import venv
from collections import deque
from pathlib import Path

import debian

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ((3, 11), (3, 13))
TORCH_CPU = "torch==2.13.0+cpu"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""PyPI has no CPU build of torch; PyTorch's own index has."""
DEBIAN_FOR_TESTS = ("prometheus",)
REPORT_EVERY_S = 10.0
PIP_STEPS = re.compile(r"^\s*(?:Collecting|Downloading|Using cached|Installing collected packages|Building \w+ for)\b")


def main(folder: Path, extras: list[str]) -> None:
    began = time.monotonic()
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        here, first, last = (".".join(map(str, v)) for v in (sys.version_info[:2], *PYTHONS))
        raise SystemExit(f"Python {first} to {last} is needed, and this is {here}: make install PYTHON=python{first}")
    if not (folder / "bin" / "pip").exists():
        say(f"creating {folder}")
        venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    hardware = "gpu" if has_gpu() else "cpu"
    index = torch_index(pip) if hardware == "cpu" else []
    wanted = [hardware, *extras]
    say(f"installing for the {hardware.upper()}" + (f", with what {' and '.join(extras)} needs" if extras else ""))
    install([*pip, "install", *index, "-e", f"{ROOT}[{','.join(wanted)}]"])
    if "test" in extras:
        debian.unpack(DEBIAN_FOR_TESTS, folder / "debian")
    say(f"installed in {time.monotonic() - began:.0f} s")


def has_gpu() -> bool:
    """An NVIDIA GPU that this process may use."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return Path("/dev/nvidia0").exists()
    return subprocess.run([smi, "-L"], capture_output=True, check=False).returncode == 0


def torch_index(pip: list[str]) -> list[str]:
    """pip's arguments to find torch's CPU build: none where its own sources have it, else PyTorch's index."""
    elsewhere = ["--extra-index-url", TORCH_CPU_INDEX]
    for index in ([], elsewhere):
        probe = [*pip, "install", "--quiet", "--dry-run", "--no-deps", "--retries=0", "--timeout=20", *index, TORCH_CPU]
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            say(f"{TORCH_CPU} comes from " + (TORCH_CPU_INDEX if index else "pip's own sources"))
            return index
    raise SystemExit(f"pip finds {TORCH_CPU} neither in its own sources nor in {TORCH_CPU_INDEX}")


def install(command: list[str]) -> None:
    """Run pip, and say now and then how far it is; all it said last when it fails."""
    began = told = time.monotonic()
    last: deque[str] = deque(maxlen=30)
    packages = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            last.append(line)
            packages += line.startswith("Collecting")
            now = time.monotonic()
            final = line.startswith("Installing collected")
            if PIP_STEPS.match(line) and (final or now - told > REPORT_EVERY_S):
                told = now
                what = "unpacking" if final else line.strip()[:60]
                say(f"  {now - began:3.0f} s, {packages} packages: {what}")
    if process.returncode:
        raise SystemExit("".join(last) + f"this failed: {' '.join(command)}")


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
