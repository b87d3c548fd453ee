"""Events of a service: written as lines, read again, and what they say of a start."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.launching.events import (
    Ended,
    Event,
    Milestone,
    Ready,
    ReplicaOrdered,
    ReplicaReady,
    StartedAgain,
    line,
    read,
    startup_s,
)

START: list[Event] = [
    Milestone(at_s=3.1, reached="Ray is up"),
    Milestone(at_s=6.0, reached="Ray Serve is up"),
    Milestone(at_s=6.2, reached="deploying"),
    ReplicaOrdered(at_s=9.0, model="m", wanted=2),
    ReplicaReady(at_s=9.0, model="other", ready=2, wanted=2),
    ReplicaReady(at_s=9.9, model="m", ready=1, wanted=2),
    Ready(at_s=9.9, url="http://127.0.0.1:1", models=["m", "other"]),
    ReplicaReady(at_s=13.0, model="m", ready=2, wanted=2),
]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "events"
    events = [*START, StartedAgain(at_s=14.0), Ended(at_s=15.0, reason="out of\nmemory")]
    path.write_text("".join(map(line, events)))
    assert read(path) == events


def test_a_file_that_is_being_written_is_read_as_far_as_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "events"
    assert read(path) == []
    path.write_text(line(START[0]) + line(START[1])[:10])
    assert read(path) == START[:1]


@pytest.mark.parametrize(
    ("left_out", "replicas", "seconds"),
    [((), 1, 3.7), ((), 2, 6.8), (("deploying",), 2, 7.0), (("deploying", "Ray Serve is up", "Ray is up"), 2, 13.0)],
)
def test_a_start_counts_from_the_deployment_or_what_came_before(
    left_out: tuple[str, ...], replicas: int, seconds: float
) -> None:
    seen = [one for one in START if not (isinstance(one, Milestone) and one.reached in left_out)]
    assert startup_s(seen, "m", replicas) == pytest.approx(seconds)


def test_a_start_that_did_not_end_has_no_time() -> None:
    with pytest.raises(ValueError, match="3 replicas of 'm' were never ready"):
        startup_s(START, "m", 3)
