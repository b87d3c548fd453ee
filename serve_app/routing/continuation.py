"""What is kept of a streamed answer to go on with it on another replica if its own is lost (`replica.said`)."""

from __future__ import annotations

import secrets
import time

from serve_app.replica.said import (
    BETWEEN,
    CONTINUABLE_HEADER,
    DIED,
    EVENT_END,
    MARK,
    SAID_HEADER,
    STOP,
    USED,
    Identity,
    write,
)
from serve_app.routing.body import RequestBody


class Continuation:
    """One request's: empty while nothing of its answer has come."""

    def __init__(self, body: RequestBody, most_bytes: int) -> None:
        """`most_bytes` are kept, the request's own body included; 0 where no answer is to be continued."""
        self._body = body
        self._left = most_bytes - len(body.data)
        self._identity = Identity(secrets.token_hex(8), int(time.time())) if self._left > 0 else None
        self._said = bytearray()
        """The marks, one behind the other: in pieces they would take ten times the memory."""
        self._rest = b""
        """What has come of an event that is not complete."""
        self.events = 0
        """Those that went to the client."""

    @property
    def possible(self) -> bool:
        """Whether another replica can go on with it."""
        return self._identity is not None and bool(self._body.data)

    @property
    def engine_died(self) -> bool:
        """Whether the replica said so before it broke off."""
        return self._rest.startswith(MARK + DIED)

    @property
    def used(self) -> int | None:
        """Tokens that the answer took, once it is complete; None where the replica did not say so."""
        said = self._rest.removeprefix(MARK + USED)
        return int(said) if len(said) < len(self._rest) else None

    def give_up(self) -> None:
        """Keep nothing any more."""
        self._identity = None
        self._said.clear()
        self._body.release()

    def request(self) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Headers and body with which a replica begins with this answer, or goes on with it."""
        data = self._body.data
        if self._identity is None:
            return [], data
        headers = [(CONTINUABLE_HEADER, bytes(self._identity))]
        self._rest = b""
        if not self.events:
            self._said.clear()
            return headers, data
        headers.append((SAID_HEADER, b"%d" % len(data)))
        return headers, data + write(self.events, bytes(self._said))

    def take(self, data: bytes) -> bytes:
        """The whole events in what has come of a marked stream, without the marks."""
        if data.startswith(MARK) and data.endswith(EVENT_END) and not self._rest and data.rfind(MARK) == 0:
            # One chunk, as it was sent: nearly always.
            mark, _, data = data[1:].partition(b"\n")
            self._keep(mark)
        else:
            data = self._unmarked(data)
        self.events += data.count(EVENT_END)
        return data

    def _unmarked(self, data: bytes) -> bytes:
        data = self._rest + data
        cut = data.rfind(EVENT_END) + len(EVENT_END) if EVENT_END in data else 0
        data, self._rest = data[:cut], data[cut:]
        events, *marked = data.split(MARK)
        for one in marked:
            mark, _, more = one.partition(b"\n")
            self._keep(mark)
            events += more
        return events

    def _keep(self, mark: bytes) -> None:
        self._left -= len(mark)
        if mark == STOP or self._left < 0:
            self.give_up()
        elif self._identity is not None:
            self._said += BETWEEN + mark if self._said else mark
