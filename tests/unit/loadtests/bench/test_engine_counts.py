"""What is read of prefix caches and adapters from a metrics page."""

from __future__ import annotations

from loadtests.bench.peers.engine_counts import EngineCounts, parse, read
from serve_app.launching.environment import free_ports

PAGE = """\
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",replica="a"} 100.0
vllm:prefix_cache_queries_total{engine="0",replica="b"} 60.0 1764000000
vllm:prefix_cache_hits_total{engine="0",replica="a"} 4e+1
vllm:prefix_cache_hits_created{engine="0"} 1.7e+09
"""


def test_sums_over_engines() -> None:
    assert parse(PAGE) == EngineCounts(hits=40, queries=160)


def test_share_of_what_was_looked_up_since() -> None:
    assert EngineCounts(40, 160).cached_since(EngineCounts(10, 100)) == 0.5
    assert EngineCounts(40, 160).cached_since(EngineCounts(40, 160)) is None


def test_loads_of_adapters_are_told_where_they_are_counted() -> None:
    page = PAGE + "# TYPE serve_app_adapter_loads_total counter\n"
    page += "".join(f'serve_app_adapter_loads_total{{adapter="{one}",replica="a"}} 3.0\n' for one in "ab")
    assert parse(page).loads == 6 and parse(page).loads_since(EngineCounts(loads=2)) == 4
    assert parse(PAGE).loads is None and parse(PAGE).loads_since(EngineCounts()) is None


def test_nothing_where_there_are_no_such_metrics() -> None:
    assert parse("# an empty page\n") == EngineCounts(0, 0)
    assert read(f"http://127.0.0.1:{free_ports(1)[0]}") == EngineCounts(0, 0)
