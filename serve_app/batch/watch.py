"""Whether others use the service, told from its engines' metrics and what this batch itself has sent.

The engines count every request they accepted; what is more than this batch's own is others'. Requests on their way are
this batch's and not yet the engines', so the difference errs towards nobody, and only its rise is news.
"""

from __future__ import annotations

import re
from collections import deque

from serve_app.batch.pace import Load

KEPT_LOOKS = 10
"""Engines that restart count from zero: what the difference was is forgotten after as many looks."""
_SAMPLE = re.compile(
    r"^vllm:(num_requests_running|num_requests_waiting|request_success_total)(?:\{[^}]*\})? (\S+)", re.MULTILINE
)


class Watch:
    """One batch's view of the service's /metrics."""

    def __init__(self) -> None:
        self._open = 0
        self._accepted = 0
        self._before: deque[float] = deque(maxlen=KEPT_LOOKS)

    def sent(self) -> None:
        self._open += 1

    def ended(self, accepted: bool) -> None:
        """`accepted`: an engine took the request and answered it."""
        self._open -= 1
        self._accepted += accepted

    def mark(self) -> tuple[int, int]:
        """Before the metrics are asked for; `look` takes it."""
        return self._open, self._accepted

    def look(self, metrics: str, before: tuple[int, int]) -> Load | None:
        """What the metrics say; None where they are not those of vLLM engines."""
        sums: dict[str, float] = {}
        for name, value in _SAMPLE.findall(metrics):
            sums[name] = sums.get(name, 0.0) + float(value)
        if not sums:
            return None
        running, waiting = sums.get("num_requests_running", 0.0), sums.get("num_requests_waiting", 0.0)
        own = self._open + self._accepted
        present = running + waiting - (before[0] + own - sum(before))
        more = sums.get("request_success_total", 0.0) + running + waiting - own
        arrived = more - max(self._before, default=more)
        self._before.append(more)
        return Load(int(running), int(waiting), int(max(present, arrived, 0)))
