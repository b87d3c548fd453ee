"""Replicas on the machines and GPUs that they say they have."""

from __future__ import annotations

from typing import Any

from serve_app.console.gpus import by_node
from serve_app.routing.replica import Replica
from tests.support.replicas import published


def replica(name: str, address: str = "10.0.0.1") -> tuple[str, Replica]:
    return "m", Replica(published(name, url=f"http://{address}:7000"))


def place(*mine: str, host: str = "one", **more: Any) -> dict[str, Any]:
    gpus = [{"index": 1, "uuid": "b", "used_gib": 2.0}, {"index": 0, "uuid": "a", "used_gib": 1.0}]
    return {"host": host, "gpus": gpus, "mine": list(mine), "problem": None, "planned": {"gpu_share": 0.5}, **more}


def test_replicas_share_a_gpu_and_one_has_two() -> None:
    found = [(replica("x"), place("a")), (replica("y"), place("a")), (replica("z"), place("a", "b"))]
    (node,) = by_node(found)
    assert [gpu["index"] for gpu in node["gpus"]] == [0, 1]
    assert [[one["id"] for one in gpu["replicas"]] for gpu in node["gpus"]] == [["x", "y", "z"], ["z"]]
    assert (node["host"], node["address"], node["cpu"]) == ("one", "10.0.0.1", [])


def test_machines_are_told_apart_and_those_on_a_cpu_have_a_place_too() -> None:
    found = [(replica("x", "10.0.0.2"), place(gpus=[], host="two")), (replica("y"), place("b"))]
    one, two = by_node(found)
    assert (one["host"], two["host"], two["gpus"]) == ("one", "two", [])
    assert [replica["id"] for replica in two["cpu"]] == ["x"]


def test_a_replica_that_does_not_answer_is_shown_all_the_same() -> None:
    (node,) = by_node([(replica("x"), None), (replica("y"), place("a"))])
    assert node["host"] == "one" and node["problem"]
    assert [one["id"] for one in node["cpu"]] == ["x"]
