"""What `serve_app up` says of a start, as seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.planner.tuning.measure import startup_s, step_seconds

SAID = """\
[  0.0 s] starting x.yaml; log: /tmp/y
[  3.1 s] Ray is up
[  6.0 s] Ray Serve is up
[  6.2 s] deploying
[  9.9 s] m: 1 of 1 ready
[ 12.7 s] ready: http://127.0.0.1:1
"""


@pytest.mark.parametrize(
    ("left_out", "seconds"),
    [((), 6.8), (("deploying",), 7.0), (("deploying", "Serve is up", "Ray is up"), 13.0), (("s]",), 13.0)],
)
def test_a_start_counts_from_the_deployment_or_what_was_said_before(
    tmp_path: Path, left_out: tuple[str, ...], seconds: float
) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join(line for line in SAID.splitlines() if not any(word in line for word in left_out)))
    assert startup_s(log, 13.0) == pytest.approx(seconds)


def test_slow_rates_are_offered_for_longer_within_a_bound() -> None:
    assert step_seconds(10.0, 8.0) == 8.0
    assert step_seconds(4.0, 8.0) == 10.0
    assert step_seconds(0.5, 8.0) == 24.0
