#!/usr/bin/env python3
"""Install Chromium from Debian's packages, unless there is one: the tests of the console drive it.

browser.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys


def main() -> None:
    """Ends with a message where it cannot be installed; the tests of the console then say what is missing."""
    if shutil.which("chromium"):
        return
    if os.geteuid() or not shutil.which("apt-get"):
        print("the tests of the console need `chromium` on PATH: install it, or they fail", file=sys.stderr)
        return
    print("installing chromium", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", "chromium", "fonts-dejavu-core"]):
        done = subprocess.run(
            ["apt-get", "-qq", *command], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            print(f"apt-get {' '.join(command)} failed:\n{done.stdout}{done.stderr}", file=sys.stderr)
            return


if __name__ == "__main__":
    main()
