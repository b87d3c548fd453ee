"""What an engine has lately taken in and put out. Reads no clock: times are seconds on the caller's."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from serve_app.replica.protocol import RATES_OVER_S

BUCKET_S = 0.25
BUCKETS = round(RATES_OVER_S / BUCKET_S)
"""The window reaches over the present bucket and those before it."""


@dataclass(slots=True)
class _Bucket:
    number: int
    arrivals: int = 0
    tokens: int = 0
    firsts: int = 0
    ttft_s: float = 0.0
    ended: int = 0
    service_s: float = 0.0


class Meter:
    """Rates and means over a sliding window; an update costs a microsecond."""

    def __init__(self) -> None:
        self._buckets: deque[_Bucket] = deque(maxlen=BUCKETS)
        self._ttft_s = self._service_s = 0.0

    def add(
        self,
        now: float,
        tokens: int = 0,
        ttfts_s: Iterable[float] = (),
        services_s: Iterable[float] = (),
        arrivals: int = 0,
    ) -> None:
        """Output tokens of a step; times to first token of the requests that got theirs in it; times in the batch,
        without queueing, of those that ended with it; requests accepted meanwhile."""
        number = int(now / BUCKET_S)
        if not self._buckets or self._buckets[-1].number != number:
            self._buckets.append(_Bucket(number))
        bucket = self._buckets[-1]
        bucket.arrivals += arrivals
        bucket.tokens += tokens
        for ttft_s in ttfts_s:
            bucket.firsts += 1
            bucket.ttft_s += ttft_s
        for service_s in services_s:
            bucket.ended += 1
            bucket.service_s += service_s

    def arrivals_per_s(self, now: float) -> float:
        return sum(bucket.arrivals for bucket in self._lately(now)) / self._window_s(now)

    def output_tokens_per_s(self, now: float) -> float:
        return sum(bucket.tokens for bucket in self._lately(now)) / self._window_s(now)

    def ttft_s(self, now: float) -> float:
        """Of the window's first tokens, or of the last ones before; 0 before the first.

        Whoever takes means of what is read here over time would otherwise take in zeros that say nothing.
        """
        lately = self._lately(now)
        if firsts := sum(bucket.firsts for bucket in lately):
            self._ttft_s = sum(bucket.ttft_s for bucket in lately) / firsts
        return self._ttft_s

    def service_s(self, now: float) -> float:
        """Mean time in the batch, queueing not counted, of the requests that ended lately.

        Of the last ones before, where none has.
        """
        lately = self._lately(now)
        if ended := sum(bucket.ended for bucket in lately):
            self._service_s = sum(bucket.service_s for bucket in lately) / ended
        return self._service_s

    def _lately(self, now: float) -> list[_Bucket]:
        oldest = int(now / BUCKET_S) - BUCKETS + 1
        return [bucket for bucket in self._buckets if bucket.number >= oldest]

    @staticmethod
    def _window_s(now: float) -> float:
        return now - (int(now / BUCKET_S) - BUCKETS + 1) * BUCKET_S
