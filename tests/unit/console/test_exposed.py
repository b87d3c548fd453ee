"""Counters of many processes, as the console makes rates and percentiles of them."""

from __future__ import annotations

import math

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from serve_app.console.exposed import Growth, labels, percentile, read, waiting
from serve_app.routing.metrics import Metrics


def requests(**by_status: int) -> dict[str, float]:
    """As an ingress process that has answered so many of each says it."""
    metrics = Metrics()
    for status, count in by_status.items():
        metrics.requests.labels("m", "/v1/completions", status.removeprefix("s"), "").inc(count)
    return read(generate_latest(metrics.registry).decode())


def test_a_page_is_read_as_prometheus_wrote_it() -> None:
    registry = CollectorRegistry()
    tokens = Counter("vllm:generation_tokens", "Tokens.", ("model_name",), registry=registry)
    tokens.labels('a "b" \\ c').inc(7)
    Counter("vllm:something_else", "Other.", registry=registry).inc()
    (sample, value), *others = read(generate_latest(registry).decode()).items()
    assert (labels(sample), value, others) == ({"model_name": 'a "b" \\ c'}, 7.0, [])


def test_what_was_there_before_the_first_look_does_not_count() -> None:
    growth = Growth()
    assert growth.since({"one": requests(s200=5)}) == {}
    assert growth.since({"one": requests(s200=8, s429=1)})["m"].by_status == {"200": 3, "429": 1}
    assert not growth.since({"one": requests(s200=8, s429=1)})


def test_processes_come_begin_again_and_are_missed() -> None:
    growth = Growth()
    growth.since({"one": requests(s200=5)})
    assert growth.since({"one": requests(s200=6), "new": requests(s200=2)})["m"].by_status == {"200": 3}
    assert not growth.since({"one": requests(s200=6)}), "one that did not answer in time has not lost what it had"
    assert growth.since({"one": requests(s200=1), "new": requests(s200=4)})["m"].by_status == {"200": 3}
    growth.forget(["one"])
    assert growth.since({"new": requests(s200=1)})["m"].by_status == {"200": 1}


def test_the_ingress_says_how_many_wait() -> None:
    page = 'serve_app_requests_waiting{model="m"} 3.0\nserve_app_requests_waiting{model="n"} 1.0\n'
    assert waiting([read(page), read(page)]) == {"m": 6.0, "n": 2.0}


@pytest.mark.parametrize(("share", "value"), [(0.5, 0.1), (0.75, 0.55), (1.0, 1.0)])
def test_a_percentile_lies_within_its_bucket(share: float, value: float) -> None:
    registry = CollectorRegistry()
    seconds = Histogram("vllm:time_to_first_token_seconds", "s", ("model_name",), buckets=(0.1, 1), registry=registry)
    for took in (0.01, 0.02, 0.2, 0.3):
        seconds.labels("m").observe(took)
    growth = Growth()
    growth.since({"one": {}})
    grown = growth.since({"one": read(generate_latest(registry).decode())})["m"]
    assert percentile(grown.ttft, share) == pytest.approx(value)


def test_nothing_counted_has_no_percentile_and_beyond_the_last_bucket_is_that() -> None:
    assert percentile({}, 0.5) is None and percentile({1.0: 0.0, math.inf: 0.0}, 0.5) is None
    assert percentile({1.0: 1.0, math.inf: 10.0}, 0.9) == 1.0
