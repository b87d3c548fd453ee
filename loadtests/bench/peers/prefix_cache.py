"""How much of the prompts a contender's engines found in their prefix caches, from its `/metrics`."""

from __future__ import annotations

import urllib.request
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

HITS, QUERIES = "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"


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
    except (OSError, ValueError):
        return PrefixCache(0.0, 0.0)


def parse(page: str) -> PrefixCache:
    """Sums over all engines of a page in Prometheus' text format; raises ValueError for any other."""
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    return PrefixCache(*(sum(one.value for one in samples if one.name == name) for name in (HITS, QUERIES)))
