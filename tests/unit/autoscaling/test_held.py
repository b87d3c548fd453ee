"""Counting what processes say they hold, while they live."""

from __future__ import annotations

from typing import Any

from serve_app.autoscaling.held import EXPIRES_S, Tally


def fact(number: int, app: str = "app", **held: int) -> dict[str, Any]:
    return {"app": app, "number": number, "held": held}


def test_counts_of_all_processes_add_up_by_application_and_model() -> None:
    tally = Tally()
    tally.update(0, {"a": fact(1, m=3, n=1), "b": fact(1, m=4), "c": fact(1, app="other", m=100)})
    assert (tally.held(0, "app", "m"), tally.held(0, "app", "n"), tally.held(0, "app", "x")) == (7, 1, 0)


def test_a_count_that_is_written_again_stays() -> None:
    tally = Tally()
    for second in range(20):
        assert tally.update(second, {"a": fact(second, m=3)}) == []
        assert tally.held(second, "app", "m") == 3


def test_a_count_that_is_not_expires_and_is_named() -> None:
    tally = Tally()
    dead, alive = fact(1, m=3), fact(1, m=2)
    tally.update(0, {"dead": dead, "alive": alive})
    assert tally.held(EXPIRES_S, "app", "m") == 5
    expired = tally.update(EXPIRES_S + 1, {"dead": dead, "alive": fact(2, m=2)})
    assert expired == ["dead"] and tally.held(EXPIRES_S + 1, "app", "m") == 2
    assert Tally().update(EXPIRES_S, {"dead": dead}) == []


def test_counts_expire_although_nothing_is_read_any_more() -> None:
    tally = Tally()
    tally.update(0, {"a": fact(1, m=3)})
    assert tally.held(EXPIRES_S + 0.1, "app", "m") == 0


def test_an_erased_count_is_gone() -> None:
    tally = Tally()
    tally.update(0, {"a": fact(1, m=3)})
    tally.update(1, {})
    assert tally.held(1, "app", "m") == 0
