"""What a contender's engines count, from its `/metrics`: how much of the prompts they found in their prefix caches, and
how often they loaded adapters."""

from __future__ import annotations

import urllib.request
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from loadtests.bench import adapters

HITS, QUERIES = "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"


class EngineCounts(NamedTuple):
    """Of all engines since they started."""

    hits: float = 0.0
    """Tokens of prompts that were found."""
    queries: float = 0.0
    """Tokens of prompts that were looked up."""
    loads: float | None = None
    """Adapters loaded; None where the contender does not tell."""

    def cached_since(self, before: EngineCounts) -> float | None:
        """The share found, of tokens looked up since; None when none were."""
        looked_up = self.queries - before.queries
        return (self.hits - before.hits) / looked_up if looked_up else None

    def loads_since(self, before: EngineCounts) -> float | None:
        return None if self.loads is None else self.loads - (before.loads or 0.0)


def read(url: str) -> EngineCounts:
    """Nothing where the server has no such metrics."""
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
            return parse(answer.read().decode())
    except (OSError, ValueError):
        return EngineCounts()


def parse(page: str) -> EngineCounts:
    """Sums over all engines of a page in Prometheus' text format; raises ValueError for any other."""
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    hits, queries = (sum(one.value for one in samples if one.name == name) for name in (HITS, QUERIES))
    return EngineCounts(hits, queries, adapters.loads(page))
