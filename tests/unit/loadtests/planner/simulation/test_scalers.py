"""What others' policies decide, on observations whose answer their documentation gives."""

from __future__ import annotations

import pytest

from loadtests.arguments import BadSpec
from loadtests.planner.simulation.scalers import Scaler, ScalerInputs, make
from loadtests.planner.tuning.oracle import Oracle
from serve_app.autoscaling.policy import Observation
from serve_app.config.schema import Autoscaling
from serve_app.replica.protocol import ReplicaSignals

GIVEN = ScalerInputs(Autoscaling(min_replicas=1, max_replicas=20, target_load=0.5), 16, lambda: Oracle(0.5, (1, 2, 3)))


def seen(at_s: float, ready: int, running: float = 0.0, waiting: float = 0.0, queued: float = 0.0) -> Observation:
    """So many of each at every replica."""
    one = ReplicaSignals(running=running, waiting=waiting)
    return Observation(at_s, (one,) * ready, ready, queued)


def over(scaler: Scaler, seconds: float, ready: int, **load: float) -> int:
    """The last decision when nothing changes for so long."""
    wanted = ready
    for i in range(int(seconds * 2) + 1):
        wanted = scaler.decide(seen(i / 2, ready, **load))
    return wanted


def test_keda_wants_the_queue_over_the_threshold_every_fifteen_seconds() -> None:
    keda = make("keda:threshold=5", GIVEN)
    assert keda.decide(seen(0, 2, waiting=10)) == 4
    assert keda.decide(seen(7, 2, waiting=50)) == 2
    assert keda.decide(seen(15, 4, waiting=10)) == 8


def test_keda_at_most_doubles_and_stays_in_bounds() -> None:
    assert make("keda", GIVEN).decide(seen(0, 1, queued=1000)) == 5
    assert make("keda", GIVEN).decide(seen(0, 9, queued=1000)) == 18
    assert make("keda", GIVEN).decide(seen(0, 15, queued=1000)) == 20


def test_keda_tolerates_a_tenth_and_remembers_five_minutes_on_the_way_down() -> None:
    assert make("keda", GIVEN).decide(seen(0, 4, queued=21)) == 4
    keda = make("keda", GIVEN)
    assert keda.decide(seen(0, 4, queued=20)) == 4
    assert keda.decide(seen(15, 4)) == 4
    assert keda.decide(seen(299, 4)) == 4
    assert keda.decide(seen(315, 4)) == 1


def test_keda_may_count_running_requests_too() -> None:
    assert make("keda:metric=requests,threshold=8", GIVEN).decide(seen(0, 2, running=16)) == 4
    with pytest.raises(BadSpec, match="waiting or requests"):
        make("keda:metric=latency", GIVEN)


def test_serve_aims_at_ongoing_requests_after_its_delay() -> None:
    serve = make("serve:upscale_delay=30,look_back=1", GIVEN)
    assert over(serve, 29.5, ready=2, running=16) == 2
    assert serve.decide(seen(30, 2, running=16)) == 4
    assert over(make("serve:target=2,upscale_delay=0", GIVEN), 1, ready=2, running=8) == 8
    assert over(make("serve:downscale_delay=600", GIVEN), 500, ready=4, running=1) == 4
    assert over(make("serve:downscale_delay=600", GIVEN), 600, ready=4, running=1) == 1


def test_the_oracle_orders_what_the_plan_says_of_the_next_moment() -> None:
    plan = make("oracle", GIVEN)
    assert plan.first == 1
    assert [plan.decide(seen(at, 1)) for at in (0.0, 0.5, 9.0)] == [2, 3, 3]


def test_a_fixed_number_is_all_there_may_be_unless_said() -> None:
    assert (make("fixed:7", GIVEN).first, make("fixed", GIVEN).first) == (7, 20)


def test_an_unknown_policy_is_told_what_there_is() -> None:
    with pytest.raises(BadSpec, match="did you mean 'serve'"):
        make("serv", GIVEN)
