"""Counting what processes say is queued with them, while they live."""

from __future__ import annotations

from typing import Any

from serve_app.autoscaling.queued import EXPIRES_S, QueuedCounts


def fact(number: int, app: str = "app", **queued: int) -> dict[str, Any]:
    return {"app": app, "number": number, "queued": queued, "refused_per_s": {}}


def test_counts_of_all_processes_add_up_by_application_and_model() -> None:
    counts = QueuedCounts()
    counts.update(0, {"a": fact(1, m=3, n=1), "b": fact(1, m=4), "c": fact(1, app="other", m=100)})
    assert (
        counts.outside(0, "app", "m").queued,
        counts.outside(0, "app", "n").queued,
        counts.outside(0, "app", "x").queued,
    ) == (7, 1, 0)


def test_a_count_that_is_written_again_stays() -> None:
    counts = QueuedCounts()
    for second in range(20):
        assert counts.update(second, {"a": fact(second, m=3)}) == []
        assert counts.outside(second, "app", "m").queued == 3


def test_a_count_that_is_not_expires_and_is_named() -> None:
    counts = QueuedCounts()
    dead, alive = fact(1, m=3), fact(1, m=2)
    counts.update(0, {"dead": dead, "alive": alive})
    assert counts.outside(EXPIRES_S, "app", "m").queued == 5
    expired = counts.update(EXPIRES_S + 1, {"dead": dead, "alive": fact(2, m=2)})
    assert expired == ["dead"] and counts.outside(EXPIRES_S + 1, "app", "m").queued == 2
    assert QueuedCounts().update(EXPIRES_S, {"dead": dead}) == []


def test_counts_expire_although_nothing_is_read_any_more() -> None:
    counts = QueuedCounts()
    counts.update(0, {"a": fact(1, m=3)})
    assert counts.outside(EXPIRES_S + 0.1, "app", "m").queued == 0


def test_an_erased_count_is_gone() -> None:
    counts = QueuedCounts()
    counts.update(0, {"a": fact(1, m=3)})
    counts.update(1, {})
    assert counts.outside(1, "app", "m").queued == 0


def test_what_is_refused_adds_up_as_well() -> None:
    counts = QueuedCounts()
    one = fact(1, m=3) | {"refused_per_s": {"m": 2.5}}
    counts.update(0, {"a": one, "b": fact(1, n=1) | {"refused_per_s": {"m": 1.0, "n": 9.0}}})
    assert counts.outside(0, "app", "m") == (3, 3.5)
    assert counts.outside(EXPIRES_S + 1, "app", "m") == (0, 0)
