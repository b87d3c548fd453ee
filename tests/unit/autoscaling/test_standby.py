"""Sleeping replicas: who wakes, who sleeps, how many there are."""

from __future__ import annotations

import pytest

from serve_app.autoscaling.standby import in_all, orders
from serve_app.config.errors import ConfigError
from serve_app.config.schema import Autoscaling, ServiceConfig
from serve_app.replica.protocol import ReplicaLoad
from serve_app.routing.replica import Replica
from tests.support.replicas import published


def replicas(**asleep: bool) -> list[Replica]:
    return [Replica(published(id, ReplicaLoad(asleep=is_asleep))) for id, is_asleep in asleep.items()]


def names(found: list[Replica]) -> str:
    return "".join(one.id for one in found)


@pytest.mark.parametrize(
    ("awake", "wake", "sleep"), [(0, "", "ac"), (1, "", "c"), (2, "", ""), (3, "b", ""), (4, "bd", ""), (9, "bd", "")]
)
def test_the_first_asleep_wake_and_the_last_awake_sleep(awake: int, wake: str, sleep: str) -> None:
    found = orders(replicas(c=False, a=False, d=True, b=True), awake, 2, 0.0)
    assert (names(found.wake), names(found.sleep)) == (wake, sleep)


def test_one_that_was_just_woken_is_awake_whatever_it_last_said() -> None:
    both = replicas(a=True, b=True)
    both[1].woken(10.0)
    assert orders(both, 1, 1, 10.1) == ([], [])
    assert names(orders(both, 1, 0, 60.0).wake) == "a"


def test_none_sleeps_that_a_request_has_woken_since_the_policy_looked() -> None:
    three = replicas(a=False, b=False, c=False)
    assert orders(three, 1, 1, 0.0) == ([], [])
    assert names(orders(three, 1, 2, 0.0).sleep) == "c"
    assert names(orders(three, 1, 9, 0.0).sleep) == "bc"


def test_what_drains_counts_for_nothing() -> None:
    leaving = Replica(published("z", ReplicaLoad(draining=True)))
    assert names(orders([*replicas(a=True), leaving], 1, 0, 0.0).wake) == "a"


def test_sleepers_are_added_up_to_the_most_and_go_when_others_sleep() -> None:
    settings = Autoscaling(min_replicas=1, max_replicas=6, standby=2)
    assert [in_all(settings, awake, awake, 0) for awake in (1, 3, 5, 6)] == [3, 5, 6, 6]
    assert in_all(settings, awake=2, up=3, before=5) == 5, "one of those that serve could be taken"
    assert in_all(settings, awake=2, up=2, before=5) == 4


def test_sleepers_must_have_room() -> None:
    models = [{"id": "m", "engine": "simulated", "autoscaling": {"min_replicas": 3, "max_replicas": 4, "standby": 2}}]
    with pytest.raises(ConfigError, match=r"min_replicas and standby \(3 \+ 2\)"):
        ServiceConfig.parse({"models": models})
