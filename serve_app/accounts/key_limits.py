"""One key's limits in one process, which shares them with other processes.

Each process may use its part of what all of them had left at the same moment, and learns again and again what that was
(`serve_app.accounts.sharing`): together they use no more than there is, and what one does not use comes to the others.
A part of less than one request is one, so that a limit that is smaller than the number of processes is theirs all the
same. Tokens are known when they have been made; a request that is open, or has only just ended, counts as many as the
key's requests had lately.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from serve_app.config.keys import KeyConfig
from serve_app.replica.tally import Fact, Tally, day_wait_s, minute_wait_s, within_day, within_minute

BYTES_PER_TOKEN = 4
FIRST_ANSWER_TOKENS = 256
"""What an answer is taken for before any is known."""
LEARN_FROM = 8
"""Requests over which the mean of their tokens is taken."""
SOON_S = 1.0
"""Until a request that is open may have ended."""


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """What a process has used of a key's limits, as it tells the others."""

    requests: Fact = field(default_factory=lambda: Tally().fact())
    open: int = 0
    reserved: float = 0.0
    """Tokens that its open requests are taken for."""


@dataclass(frozen=True, slots=True)
class TokenUse:
    """What a replica has made for a key, as it tells everybody."""

    tokens: Fact
    requests: int
    """Ended or open, since the replica began."""
    total: int
    """Tokens since the replica began."""


@dataclass(frozen=True, slots=True)
class Exceeded:
    """The limit that a request does not fit in."""

    limit: str
    """Its key in the configuration."""
    most: int
    wait_s: float
    """Until it would fit, if nothing else came."""


@dataclass(frozen=True, slots=True)
class Remaining:
    """How much of a limit is left to all processes."""

    most: int
    left: int
    reset_s: float
    """Until all of it is free, if nothing else came."""


class KeyLimits:
    """`shares` processes have the key. Times are seconds since the epoch."""

    def __init__(self, key: KeyConfig, shares: int) -> None:
        self.key = key
        self.shares = shares
        self._requests = Tally()
        self._open = 0
        self._reserved = 0.0
        self._admitted, self._reserved_ever = 0, 0.0
        self._before: _Mark = _Mark()
        """When all were told of last."""
        self._told: _Mark = _Mark()
        """When this process has told the others last."""
        self._others: list[ProcessUse] = []
        self._made: list[TokenUse] = []
        self._mean: float | None = None

    def exceeded(self, now: float, size: int) -> Exceeded | None:
        """The limit in whose way a request with a body of so many bytes would be; None where it may come."""
        key = self.key
        if key.parallel is not None and self._open >= self._most_open(key.parallel):
            return Exceeded("parallel", key.parallel, SOON_S)
        since = self._admitted - self._before.admitted
        requests, tokens = self._all_requests(), self._all_tokens()
        if (most := key.requests_per_minute) is not None:
            used = within_minute(requests, now)
            if since + 1 > self._part(most - used + since):
                return Exceeded("requests_per_minute", most, minute_wait_s(requests, now, most, 1))
        if (most := key.requests_per_day) is not None and since + 1 > self._part(
            most - within_day(requests, now) + since
        ):
            return Exceeded("requests_per_day", most, day_wait_s(now))
        wanted = self.expected(size)
        if (most := key.tokens_per_minute) is not None and not self._fits(most - within_minute(tokens, now), wanted):
            return Exceeded("tokens_per_minute", most, max(SOON_S, minute_wait_s(tokens, now, most, wanted)))
        if (most := key.tokens_per_day) is not None:
            used = within_day(tokens, now)
            if not self._fits(most - used, wanted):
                # Open requests are in the way until all is used, and may need less than they are taken for.
                return Exceeded("tokens_per_day", most, SOON_S if used < most else day_wait_s(now))
        return None

    def begin(self, now: float, size: int) -> float:
        """A request comes; returns the tokens it is taken for, to be given back by `release`."""
        wanted = self.expected(size)
        self._requests.add(now, 1)
        self._open += 1
        self._admitted += 1
        self._reserved += wanted
        self._reserved_ever += wanted
        return wanted

    def end(self) -> None:
        """It is no longer open."""
        self._open -= 1

    def release(self, reserved: float) -> None:
        """What it has used is told by who has made it."""
        self._reserved = max(0.0, self._reserved - reserved)

    def expected(self, size: int) -> float:
        """Tokens that a request with a body of so many bytes is taken for."""
        if not self.key.limits_tokens:
            return 0.0
        if self._mean is not None:
            return self._mean
        return size / BYTES_PER_TOKEN + min(FIRST_ANSWER_TOKENS, self.key.max_output_tokens or FIRST_ANSWER_TOKENS)

    def tell(self) -> ProcessUse:
        """What the others are to know; from now on it counts what happens after this."""
        self._told = _Mark(self._admitted, self._reserved_ever, self._open)
        return ProcessUse(self._requests.fact(), self._open, self._reserved)

    @property
    def is_open(self) -> bool:
        """Whether a request is open, or what one has used is not known yet."""
        return bool(self._open or self._reserved)

    def learn(self, others: list[ProcessUse] | None) -> None:
        """What the others have used up to the moment of the last `tell`; None where nothing new is known of them."""
        if others is not None:
            self._others = others
        self._before = self._told

    def made(self, tokens: list[TokenUse]) -> None:
        """What replicas have made so far."""
        requests = sum(one.requests for one in tokens) - sum(one.requests for one in self._made)
        total = sum(one.total for one in tokens) - sum(one.total for one in self._made)
        if self._made and requests > 0 and total >= 0:
            mean = total / requests
            self._mean = (
                mean if self._mean is None else self._mean + (mean - self._mean) * min(1.0, requests / LEARN_FROM)
            )
        self._made = tokens

    def remaining_requests(self, now: float) -> Remaining | None:
        """Of the limit of which the smaller share is left; None where there is none."""
        all_requests = self._all_requests()
        return self._tighter(now, all_requests, 0.0, self.key.requests_per_minute, self.key.requests_per_day)

    def remaining_tokens(self, now: float) -> Remaining | None:
        """As `remaining_requests`."""
        reserved = self._reserved + sum(one.reserved for one in self._others)
        return self._tighter(now, self._all_tokens(), reserved, self.key.tokens_per_minute, self.key.tokens_per_day)

    def _tighter(
        self, now: float, tallies: list[Tally], reserved: float, minute: int | None, day: int | None
    ) -> Remaining | None:
        found = []
        if minute is not None:
            left = max(0, int(minute - within_minute(tallies, now) - reserved))
            found.append(Remaining(minute, left, minute_wait_s(tallies, now, minute, minute)))
        if day is not None:
            left = max(0, int(day - within_day(tallies, now) - reserved))
            found.append(Remaining(day, left, day_wait_s(now)))
        return min(found, key=lambda one: one.left / one.most, default=None)

    def _most_open(self, most: int) -> int:
        others = sum(one.open for one in self._others)
        if self.shares == 1:
            return most - others
        return self._before.open + self._part(most - others - self._before.open)

    def _fits(self, left: float, wanted: float) -> bool:
        """Whether so many tokens are within this process's part; a single request is where anything is left."""
        since = self._reserved_ever - self._before.reserved
        left -= self._reserved + sum(one.reserved for one in self._others)
        part = (left + since) / self.shares - since
        return wanted <= part or (part > 0 and not self._reserved)

    def _part(self, left: float) -> int:
        return max(0, math.floor(left) if self.shares == 1 else math.ceil(left / self.shares))

    def _all_requests(self) -> list[Tally]:
        return [self._requests, *(Tally(one.requests) for one in self._others)]

    def _all_tokens(self) -> list[Tally]:
        return [Tally(one.tokens) for one in self._made]


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where a process was at a moment."""

    admitted: int = 0
    reserved: float = 0.0
    open: int = 0
