"""What is read of prefix caches from a metrics page."""

from __future__ import annotations

from loadtests.bench.peers.prefix_cache import PrefixCache, parse, read
from serve_app.launching.environment import free_ports

PAGE = """\
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",replica="a"} 100.0
vllm:prefix_cache_queries_total{engine="0",replica="b"} 60.0 1764000000
vllm:prefix_cache_hits_total{engine="0",replica="a"} 4e+1
vllm:prefix_cache_hits_created{engine="0"} 1.7e+09
"""


def test_sums_over_engines() -> None:
    assert parse(PAGE) == PrefixCache(hits=40, queries=160)


def test_share_of_what_was_looked_up_since() -> None:
    assert PrefixCache(40, 160).share_since(PrefixCache(10, 100)) == 0.5
    assert PrefixCache(40, 160).share_since(PrefixCache(40, 160)) is None


def test_nothing_where_there_are_no_such_metrics() -> None:
    assert parse("# an empty page\n") == PrefixCache(0, 0)
    assert read(f"http://127.0.0.1:{free_ports(1)[0]}") == PrefixCache(0, 0)
