from __future__ import annotations

from serve_app.batch.run.pace import HOLD_S, Pace, ServiceLoad


def busy(pace: Pace, now: float, answers: int) -> None:
    for _ in range(answers):
        pace.served(now, pace.allowed(now))


def test_it_doubles_each_round_while_it_is_served() -> None:
    pace = Pace(start=8)
    busy(pace, 0.0, 8)
    assert pace.allowed(0.0) == 16


def test_a_line_of_many_answers_counts_as_many() -> None:
    pace = Pace(start=8)
    pace.served(0.0, pace.allowed(0.0), 8)
    assert pace.allowed(0.0) == 16


def test_answers_to_fewer_than_it_may_send_say_nothing() -> None:
    pace = Pace(start=8)
    pace.served(0.0, 7)
    assert pace.allowed(0.0) == 8


def test_never_above_the_most() -> None:
    pace = Pace(start=8, most=10)
    busy(pace, 0.0, 100)
    assert pace.allowed(0.0) == 10


def test_a_burst_of_refusals_cuts_it_once_and_growth_is_slow_from_then_on() -> None:
    pace = Pace(start=100)
    for _ in range(50):
        pace.refused(0.0, None)
    assert pace.allowed(0.1) == 70
    busy(pace, 0.2, 71)
    assert pace.allowed(0.2) == 71
    pace.refused(1.5, None)
    assert pace.allowed(1.5) == 49


def test_retry_after_is_waited_for() -> None:
    pace = Pace(start=100)
    pace.refused(0.0, 3.0)
    assert pace.allowed(2.9) == 0 and pace.paused_s(1.0) == 2.0
    assert pace.allowed(3.0) == 70


def test_a_refused_pace_goes_down_to_one_request_and_no_further() -> None:
    pace = Pace(start=4)
    for second in range(20):
        pace.refused(float(second), None)
    assert pace.allowed(20.0) == 1


def test_a_queue_beyond_what_keeps_the_engines_full_is_taken_back() -> None:
    pace = Pace(start=100)
    pace.seen(0.0, ServiceLoad(running=80, waiting=20, others=0))
    assert pace.allowed(0.0) == 100
    for _ in range(20):
        pace.seen(1.0, ServiceLoad(running=64, waiting=16, others=0))
    assert pace.allowed(1.0) == 100
    pace.seen(1.0, ServiceLoad(running=64, waiting=36, others=0))
    assert pace.allowed(1.0) == 80


def test_an_engine_seen_between_two_batches_is_as_full_as_it_was() -> None:
    pace = Pace(start=128, queued=1.0)
    pace.seen(0.0, ServiceLoad(running=64, waiting=60, others=0))
    pace.seen(0.5, ServiceLoad(running=4, waiting=56, others=0))
    assert pace.allowed(0.5) == 128
    for look in range(40):
        pace.seen(1.0 + look, ServiceLoad(running=4, waiting=4, others=0))
    pace.seen(60.0, ServiceLoad(running=4, waiting=56, others=0))
    assert pace.allowed(60.0) < 128


def test_a_queue_may_be_as_long_as_its_owner_says() -> None:
    pace = Pace(start=128, queued=1.0)
    pace.seen(0.0, ServiceLoad(running=64, waiting=64, others=0))
    assert pace.allowed(0.0) == 128
    pace.seen(1.0, ServiceLoad(running=64, waiting=84, others=0))
    assert pace.allowed(1.0) == 108


def test_it_makes_way_for_others_and_comes_back() -> None:
    pace = Pace(start=80, share=1 / 8)
    pace.seen(0.0, ServiceLoad(running=80, waiting=0, others=1))
    assert pace.allowed(0.0) == 10
    busy(pace, 1.0, 500)
    assert pace.allowed(HOLD_S - 0.1) == 10
    assert pace.allowed(HOLD_S) == 80


def test_making_way_leaves_at_least_one_request() -> None:
    pace = Pace(start=2, share=1 / 8)
    pace.seen(0.0, ServiceLoad(running=2, waiting=0, others=5))
    assert pace.allowed(0.0) == 1
