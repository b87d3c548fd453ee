"""Traffic: rates over time, arrivals, and what is said of a spec that cannot be read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from random import Random

import pytest

from loadtests.arguments import BadSpec
from loadtests.loadgen import traffic
from loadtests.loadgen.traffic import parse

SPECS = {
    "steady:rate=20,duration=100": 2000,
    "steps:from=5,to=20,steps=4,duration=80": 20 * (5 + 10 + 15 + 20),
    "ramp:from=0,to=40,duration=100": 2000,
    "spike:base=2,peak=12,at=60,for=60,duration=300": 2 * 240 + 12 * 60,
    "day:base=2,peak=12,duration=10m": 7 * 600,
    "bursts:peak=30,on=10,off=20,base=3,duration=90": 3 * (10 * 30 + 20 * 3),
}


@pytest.mark.parametrize(("text", "requests"), SPECS.items())
def test_as_many_arrive_as_the_rate_comes_to(text: str, requests: float) -> None:
    shape = parse(text)
    assert shape.expected() == pytest.approx(requests, rel=1e-3)
    arrivals = list(shape.arrivals(Random(1)))
    assert arrivals == sorted(arrivals) and arrivals[0] >= 0 and arrivals[-1] < shape.duration_s
    assert len(arrivals) == pytest.approx(requests, abs=5 * math.sqrt(requests))
    middle = shape.duration_s / 2
    half = shape.expected(0, middle)
    assert sum(t < middle for t in arrivals) == pytest.approx(half, abs=5 * math.sqrt(half))


@pytest.mark.parametrize("text", SPECS)
def test_the_same_seed_gives_the_same_arrivals(text: str) -> None:
    shape = parse(text)
    assert list(shape.arrivals(Random(3))) == list(shape.arrivals(Random(3)))
    assert list(shape.arrivals(Random(3))) != list(shape.arrivals(Random(4)))


@pytest.mark.parametrize("text", SPECS)
def test_the_rate_is_within_its_peak_and_nothing_outside_the_duration(text: str) -> None:
    shape = parse(text)
    rates = [shape.rate_at(shape.duration_s * i / 1000) for i in range(1000)]
    assert max(rates) == pytest.approx(shape.peak, rel=0.01)
    assert shape.rate_at(-1) == shape.rate_at(shape.duration_s) == 0


def test_a_spike_rises_at_once_whatever_the_window() -> None:
    spike = parse("spike:base=2,peak=12,at=60,for=5,duration=300")
    assert [spike.rate_at(t) for t in (59.9, 60, 64.9, 65)] == [2, 12, 12, 2]
    assert spike.steepest_rise(0.1) == spike.steepest_rise(60) == spike.steepest_rise(1000) == 10


def test_a_ramp_rises_with_the_window() -> None:
    ramp = parse("ramp:from=0,to=40,duration=100")
    assert ramp.steepest_rise(10) == pytest.approx(4)
    assert ramp.steepest_rise(1000) == pytest.approx(40)
    assert parse("ramp:from=40,to=0,duration=100").steepest_rise(10) == pytest.approx(0)


def test_steps_rise_by_as_many_as_a_window_holds() -> None:
    steps = parse("steps:from=5,to=20,steps=4,duration=80")
    assert [steps.steepest_rise(window) for window in (1, 20, 45, 100)] == [5, 10, 15, 15]


def test_a_day_rises_steepest_on_its_flank() -> None:
    day = parse("day:base=0,peak=10,duration=600")
    assert day.steepest_rise(6) == pytest.approx(5 * math.sin(math.pi / 100) * 2, rel=0.01)
    assert day.steepest_rise(600) == pytest.approx(10)


def test_a_trace_replays_its_own_times(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    rows = [{"at_s": at, "prompt_tokens": 5, "output_tokens": 7} for at in (100, 103, 101, 125)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(parse(f"trace:{file}").arrivals(Random(1))) == [0, 1, 3, 25]
    fast = parse(f"trace:{file},speed=2,bin=5")
    assert list(fast.arrivals(Random(1))) == [0, 0.5, 1.5, 12.5]
    assert fast.rate_at(1) == pytest.approx(3 / 5) and fast.rate_at(7) == 0
    assert fast.expected() == pytest.approx(4)


def test_a_long_trace_is_quickly_summed_up() -> None:
    shape = traffic.of_times([i * 0.9 for i in range(100_000)])
    assert 0 < shape.steepest_rise(30) < 0.2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("spkie:base=2", "did you mean 'spike'"),
        ("nothing", "there are steady, steps"),
        ("spike:base=2,peek=12,at=1,for=1,duration=9", "did you mean 'peak'"),
        ("spike:base=2,peak=12", "at, for, duration must be given"),
        ("steady:rate=fast", "rate must be a number"),
        ("steady:rate=nan", "rate must be a number"),
        ("steady:rate=-1", "must not be below 0"),
        ("steady:rate=1,duration=0", "longer than 0 s"),
        ("steps:from=1,to=2,steps=1.5,duration=9", "whole number"),
        ("spike:base=1,peak=2,at=8,for=5,duration=10", "ends at 13 s"),
        ("bursts:peak=1,on=0,off=1,duration=10", "on and off"),
        ("trace:/nowhere/at/all.jsonl", "No such file"),
    ],
)
def test_a_spec_that_cannot_be_read_says_why(text: str, said: str) -> None:
    with pytest.raises(BadSpec, match=said) as caught:
        parse(text)
    assert text in str(caught.value)
