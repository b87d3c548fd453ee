"""A request's body in memory, kept until no replica can need it any more, since a retry sends it again."""

from __future__ import annotations

from collections.abc import Callable


class RequestBody:
    """Bytes to be sent to a replica, once or several times."""

    def __init__(
        self,
        data: bytes,
        on_release: Callable[[RequestBody], object] | None = None,
        on_spare: Callable[[RequestBody], object] | None = None,
    ) -> None:
        """`on_release` is called once, when the bytes are dropped: whoever counts memory takes them off there.
        `on_spare` is told that they may be dropped where memory is short."""
        self.data = data
        self._on_release = on_release
        self._on_spare = on_spare

    def spare(self) -> None:
        """The bytes are of use, but may be dropped for others: its answer has begun."""
        if self._on_spare is not None and self.data:
            self._on_spare(self)

    def release(self) -> None:
        """Drop the bytes; nothing happens the second time."""
        self.data = b""
        if self._on_release is not None:
            on_release, self._on_release = self._on_release, None
            on_release(self)
