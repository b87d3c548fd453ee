"""Tokens a second and time to first token over the last seconds."""

from __future__ import annotations

import pytest

from serve_app.engine.meter import BUCKET_S, BUCKETS, Meter

WINDOW_S = BUCKET_S * BUCKETS


def steps(meter: Meter, start: float, seconds: float, tokens: int = 8, every_s: float = 0.02) -> None:
    for step in range(round(seconds / every_s)):
        meter.add(start + step * every_s, tokens)


@pytest.mark.parametrize("start", [0.0, 1234.567])
def test_a_steady_rate_is_measured_within_a_step(start: float) -> None:
    meter = Meter()
    steps(meter, start, 20)
    assert meter.output_tokens_per_s(start + 20) == pytest.approx(400, rel=0.01)


def test_it_forgets_within_the_window() -> None:
    meter = Meter()
    steps(meter, 100, 10)
    meter.add(110, 8, [0.5])
    assert 0 < meter.output_tokens_per_s(110 + WINDOW_S / 2) < 250
    assert meter.output_tokens_per_s(110 + WINDOW_S) == meter.arrivals_per_s(110 + WINDOW_S) == 0


def test_what_requests_are_like_is_kept_until_there_are_others() -> None:
    meter = Meter()
    assert meter.ttft_s(0) == meter.service_s(0) == 0
    meter.add(10, 1, [0.5], [2.0])
    assert (meter.ttft_s(10), meter.service_s(10)) == (0.5, 2.0)
    assert (meter.ttft_s(999), meter.service_s(999)) == (0.5, 2.0)
    meter.add(1000, 1, [0.1], [1.0])
    assert (meter.ttft_s(1000), meter.service_s(1000)) == (0.1, 1.0)


def test_a_first_burst_is_not_taken_for_a_rate() -> None:
    meter = Meter()
    meter.add(100, 1000)
    assert meter.output_tokens_per_s(100.001) <= 1000 / (WINDOW_S - BUCKET_S)


def test_arrivals_and_service() -> None:
    meter = Meter()
    for step in range(100):
        meter.add(10 + step / 10, arrivals=1)
        meter.add(10 + step / 10, services_s=[1.0, 3.0])
    assert meter.arrivals_per_s(20) == pytest.approx(10, rel=0.1)
    assert meter.service_s(20) == 2.0


def test_ttft_is_the_mean_over_requests() -> None:
    meter = Meter()
    assert meter.ttft_s(0) == 0
    meter.add(10, 3, [0.1, 0.2, 0.3])
    meter.add(11, 1, [1.0])
    assert meter.ttft_s(11) == pytest.approx(0.4)
    assert meter.ttft_s(10 + WINDOW_S) == pytest.approx(1.0)
