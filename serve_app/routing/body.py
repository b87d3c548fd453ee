"""A request's body in memory, kept until a replica's response begins, since a retry sends it again."""

from __future__ import annotations

from collections.abc import Callable


class RequestBody:
    """Bytes to be sent to a replica, once or several times."""

    def __init__(self, data: bytes, on_release: Callable[[], object] | None = None) -> None:
        """`on_release` is called once, when the bytes are dropped: whoever counts memory takes them off there."""
        self.data = data
        self._on_release = on_release

    def release(self) -> None:
        """Drop the bytes; nothing happens the second time."""
        self.data = b""
        if self._on_release is not None:
            on_release, self._on_release = self._on_release, None
            on_release()
