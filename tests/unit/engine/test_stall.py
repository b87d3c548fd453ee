"""How long an engine may take for a step follows from its own."""

from __future__ import annotations

from serve_app.engine.stall import HALVED_S, LEAST_S, STEPS, StallWatch


def test_one_that_has_nothing_to_do_may_be_silent_for_ever() -> None:
    watch = StallWatch()
    watch.stepped(0.0)
    assert watch.failure(10 * LEAST_S, busy=False) is None
    assert watch.failure(20 * LEAST_S, busy=True) is None, "its request has only just come"
    assert watch.failure(21 * LEAST_S - 1, busy=True) is None
    told = watch.failure(21 * LEAST_S, busy=True)
    assert told == f"the engine has taken no step for {LEAST_S:.0f} s"


def test_one_with_long_steps_may_take_longer() -> None:
    watch, step_s = StallWatch(), 2 * LEAST_S / STEPS
    for number in range(3):
        watch.stepped(number * step_s)
    assert watch.failure(2 * step_s + STEPS * step_s * 0.99, busy=True) is None
    assert watch.failure(2 * step_s + STEPS * step_s * 1.01, busy=True) is not None


def test_a_pause_without_requests_is_no_step() -> None:
    watch = StallWatch()
    watch.stepped(0.0)
    assert watch.failure(1.0, busy=False) is None
    watch.stepped(LEAST_S * 10)
    assert watch.failure(LEAST_S * 11 + 1, busy=True) is not None


def test_a_long_step_is_forgotten() -> None:
    watch = StallWatch()
    watch.stepped(0.0)
    watch.stepped(LEAST_S)
    watch.failure(LEAST_S, busy=False)
    late = LEAST_S + 30 * HALVED_S
    watch.stepped(late)
    assert watch.failure(late + LEAST_S + 1, busy=True) is not None
