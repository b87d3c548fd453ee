"""Whether a request of a key's may come now, and what its client is told of its limits.

permit = limiter.admit(key, size)      # raises ApiError 429
...
permit.end()
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable

from serve_app.accounts.key_limits import Exceeded, KeyLimits, Remaining
from serve_app.config.keys import KeyConfig
from serve_app.http.errors import ApiError

REPORTED_S = 1.5
"""After this what a request has used is known from who has made it; until then it counts as reserved."""
LONGEST_RETRY_S = 60.0
"""OpenAI's and Anthropic's clients wait for no longer, and by their own judgement where they are told to."""
REFUSED_MOST = 1000
"""Of a key, that are told to come back one after another."""

Headers = list[tuple[bytes, bytes]]


class Permit:
    """A request that was let in."""

    def __init__(self, limits: KeyLimits | None, reserved: float) -> None:
        self._limits = limits
        self._reserved = reserved

    def end(self) -> None:
        """It is answered, or its client has left."""
        if self._limits is not None:
            self._limits.end()
            if self._reserved:
                asyncio.get_running_loop().call_later(REPORTED_S, self._limits.release, self._reserved)


_FREE = Permit(None, 0.0)


class Limiter:
    """The limits of all keys in one process."""

    def __init__(
        self, keys: Iterable[KeyConfig], shares: Callable[[], int], clock: Callable[[], float] = time.time
    ) -> None:
        """`shares()` processes share the limits at present; `clock` tells seconds since the epoch."""
        self.limits = {key.name: KeyLimits(key, 1) for key in keys if key.is_limited}
        """By the names of their keys."""
        self._shares = shares
        self._clock = clock
        self._promised: dict[str, deque[float]] = {}
        """When those who were sent away were told to come back."""

    def admit(self, key: KeyConfig, size: int) -> Permit:
        """Let a request with a body of so many bytes in; raises ApiError 429 for one that is over a limit."""
        if (limits := self.limits.get(key.name)) is None:
            return _FREE
        limits.shares = self._shares()
        now = self._clock()
        if (exceeded := limits.exceeded(now, size)) is not None:
            raise self._refusal(key, exceeded, now)
        return Permit(limits, limits.begin(now, size))

    def headers(self, key: KeyConfig) -> Headers:
        """What each answer to the key's client says of its limits."""
        if (limits := self.limits.get(key.name)) is None:
            return []
        now = self._clock()
        return _told(b"requests", limits.remaining_requests(now)) + _told(b"tokens", limits.remaining_tokens(now))

    def _refusal(self, key: KeyConfig, exceeded: Exceeded, now: float) -> ApiError:
        wait_s = self._spread(key.name, exceeded, now)
        message = (
            f"the key {key.name!r} is at its limit, {exceeded.limit}: {exceeded.most}; there is room again in"
            f" {max(1, math.ceil(wait_s))} s"
        )
        headers = [] if wait_s <= LONGEST_RETRY_S else [(b"x-should-retry", b"false")]
        headers.append((b"retry-after-ms", b"%d" % math.ceil(wait_s * 1000)))
        return ApiError(
            429,
            message,
            code="rate_limit_exceeded",
            retry_after_s=max(1, math.ceil(wait_s)),
            headers=tuple(headers),
        )

    def _spread(self, name: str, exceeded: Exceeded, now: float) -> float:
        """When this one should come back: those who are sent away are given the moments at which there is room one
        after another, or all would come at the first of them."""
        if exceeded.limit not in ("requests_per_minute", "tokens_per_minute"):
            return exceeded.wait_s
        promised = self._promised.setdefault(name, deque(maxlen=REFUSED_MOST))
        while promised and promised[0] <= now:
            promised.popleft()
        # A minute's room comes back evenly over a minute, where it was used evenly.
        apart_s = LONGEST_RETRY_S / exceeded.most if exceeded.limit == "requests_per_minute" else 0.1
        at = max(now + exceeded.wait_s, promised[-1] + apart_s if promised else 0.0)
        at = min(at, now + max(LONGEST_RETRY_S, exceeded.wait_s))
        promised.append(at)
        return min(LONGEST_RETRY_S, at - now)


def _told(what: bytes, remaining: Remaining | None) -> Headers:
    if remaining is None:
        return []
    return [
        (b"x-ratelimit-limit-" + what, b"%d" % remaining.most),
        (b"x-ratelimit-remaining-" + what, b"%d" % remaining.left),
        (b"x-ratelimit-reset-" + what, duration(remaining.reset_s).encode()),
    ]


def duration(seconds: float) -> str:
    """As OpenAI writes it: `1h2m3s`, `6m0s`, `1.5s`, `20ms`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    if seconds < 60:
        return f"{round(seconds, 1):g}s"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{f'{hours}h' if hours else ''}{minutes}m{rest}s"
