"""The simulator against what it simulates: Ray Serve, the policy in its controller, Locust in front."""

from __future__ import annotations

from pathlib import Path

from loadtests.planner.simulation.validate import ENTRY, validate

SHORT = "spike:base=2,peak=12,at=8,for=12,duration=28"
ABOUT = 0.4
"""So short a run is decided by a second more or less of start-up, and machines of tests are busy."""


def test_a_short_spike_comes_out_about_as_predicted(tmp_path: Path) -> None:
    found = {one.name: one for one in validate(SHORT, ENTRY, tmp_path)}
    assert abs(found["replica-seconds"].error) < ABOUT
    assert abs(found["requests within the SLO"].error) < ABOUT
    assert found["requests answered"].real == found["requests answered"].simulated > 50
    assert found["most replicas"].real > 1 and found["most replicas"].simulated > 1
