"""How much of the prompts a contender's engines found in their prefix caches, from its `/metrics`."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import NamedTuple

METRICS = {"vllm:prefix_cache_hits_total": "hits", "vllm:prefix_cache_queries_total": "queries"}


class PrefixCache(NamedTuple):
    """Prompt tokens of all engines since they started."""

    hits: float
    queries: float

    def share_since(self, before: PrefixCache) -> float | None:
        """Found, of those looked up since; None when none were."""
        looked_up = self.queries - before.queries
        return (self.hits - before.hits) / looked_up if looked_up else None


def read(url: str) -> PrefixCache:
    """Nothing where the server has no such metrics."""
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
            return parse(answer.read().decode())
    except OSError:
        return PrefixCache(0.0, 0.0)


def parse(page: str) -> PrefixCache:
    """Sums over all engines of a page in Prometheus' text format."""
    sums = dict.fromkeys(METRICS.values(), 0.0)
    for line in page.splitlines():
        name, _, rest = line.partition("{")
        if name in METRICS:
            sums[METRICS[name]] += float(rest.rpartition("} ")[2].split()[0])
    return PrefixCache(**sums)
