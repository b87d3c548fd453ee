"""What an engine has lately put out. Reads no clock: times are seconds on the caller's, and never decrease."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

BUCKET_S = 0.5
BUCKETS = 8
"""The window reaches over the present bucket and those before it: 3.5 to 4 s."""


@dataclass(slots=True)
class _Bucket:
    number: int
    tokens: int = 0
    ttft_s: float = 0.0
    firsts: int = 0


class Meter:
    """Output tokens a second and mean TTFT over a sliding window; one update costs a microsecond."""

    def __init__(self) -> None:
        self._buckets: deque[_Bucket] = deque(maxlen=BUCKETS)

    def add(self, now: float, tokens: int, ttfts_s: Iterable[float] = ()) -> None:
        """A step's output tokens, and the times to first token of the requests that got theirs in it."""
        number = int(now / BUCKET_S)
        if not self._buckets or self._buckets[-1].number != number:
            self._buckets.append(_Bucket(number))
        bucket = self._buckets[-1]
        bucket.tokens += tokens
        for ttft_s in ttfts_s:
            bucket.ttft_s += ttft_s
            bucket.firsts += 1

    def output_tokens_per_s(self, now: float) -> float:
        oldest = int(now / BUCKET_S) - BUCKETS + 1
        return sum(bucket.tokens for bucket in self._since(oldest)) / max(BUCKET_S, now - oldest * BUCKET_S)

    def ttft_s(self, now: float) -> float:
        """0 when no request got its first token in the window."""
        buckets = self._since(int(now / BUCKET_S) - BUCKETS + 1)
        firsts = sum(bucket.firsts for bucket in buckets)
        return sum(bucket.ttft_s for bucket in buckets) / firsts if firsts else 0.0

    def _since(self, oldest: int) -> list[_Bucket]:
        return [bucket for bucket in self._buckets if bucket.number >= oldest]
