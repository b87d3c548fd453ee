"""A small process that ends a family when the one that started it is gone, however it went.

`with Guard(family): ...` in whoever starts processes that would hold a GPU. A kill that cannot be caught leaves nobody
to clean up; the guard reads a pipe that closes with its starter, and is in a session of its own, so that neither Ctrl-C
nor a kill of the starter's group reaches it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from types import TracebackType

from serve_app.launching.processes import LAUNCH_ID, Family

PATIENCE_S = 10.0
"""From asking the family to end to making it."""
DISMISSED = b"."


class Guard:
    """Watches over a family while the block runs; what the block leaves of it is its own to end."""

    def __init__(self, family: Family) -> None:
        self._launch_id = family.launch_id
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Guard:
        environment = {name: value for name, value in os.environ.items() if name != LAUNCH_ID}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "serve_app.launching.guard", self._launch_id],
            stdin=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate(DISMISSED)


def marked(family: Family) -> dict[str, str]:
    """Variables for the family's processes; titles that they give themselves leave these readable."""
    return {LAUNCH_ID: family.launch_id, "SPT_NOENV": "1"}


def main(launch_id: str) -> None:
    """Wait for the starter's end, and end what it has left."""
    if not sys.stdin.buffer.read():
        Family(launch_id).end(PATIENCE_S)


if __name__ == "__main__":
    main(sys.argv[1])
