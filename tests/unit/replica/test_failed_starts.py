"""Failed starts are told, not tried again at once, and not tried without a pause for ever."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serve_app.compat import kv_store
from serve_app.config.schema import ModelConfig
from serve_app.replica.failed_starts import FORGOTTEN_S, FRESH_S, LONGEST_PAUSE_S, QUICK, NodeStarts, failing

MODEL = ModelConfig(id="a/model", engine="simulated")


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The key-value store, in this process."""
    facts: dict[str, Any] = {}
    monkeypatch.setattr(kv_store, "read", facts.get)
    monkeypatch.setattr(kv_store, "write", lambda key, fact: facts.update({key: json.loads(json.dumps(fact))}))
    monkeypatch.setattr(kv_store, "erase", lambda key: facts.pop(key, None))
    monkeypatch.setattr(
        kv_store, "read_all", lambda prefix: {key: fact for key, fact in facts.items() if key.startswith(prefix)}
    )
    return facts


def test_what_failed_for_good_is_not_tried_again_while_serve_counts() -> None:
    starts = NodeStarts("app", MODEL, "node")
    assert starts.last(100) is None
    for count in range(1, QUICK):
        last = starts.failed("no GPU", True, 100)
        assert (last.count, last.may_repeat(101), last.pause_s(101)) == (count, True, 0)
    assert not last.may_repeat(101 + FRESH_S), "somebody may have put it right"
    assert not starts.failed("no GPU", True, 100).may_repeat(101), "from now on it waits, then tries"


def test_what_may_pass_is_tried_again_at_once_and_then_less_and_less_often() -> None:
    starts = NodeStarts("app", MODEL, "node")
    pauses = []
    for _ in range(12):
        last = starts.failed("out of memory", False, 100)
        assert not last.may_repeat(100)
        pauses.append(last.pause_s(100))
    assert pauses[: QUICK - 1] == [0] * (QUICK - 1)
    assert pauses[QUICK - 1 :] == sorted(pauses[QUICK - 1 :]) and pauses[QUICK - 1] > 0
    assert pauses[-1] == LONGEST_PAUSE_S
    assert last.pause_s(100 + LONGEST_PAUSE_S) == 0


def test_a_success_another_configuration_another_node_and_time_begin_anew() -> None:
    starts = NodeStarts("app", MODEL, "node")
    starts.failed("no GPU", True, 100)
    assert NodeStarts("app", MODEL, "other").last(101) is None
    assert NodeStarts("app", MODEL.model_copy(update={"cpus": 2.0}), "node").last(101) is None
    assert starts.last(101 + FORGOTTEN_S) is None
    assert starts.last(101)
    starts.succeeded()
    assert starts.last(101) is None


def test_everybody_sees_the_latest_failure_of_a_model_on_any_node() -> None:
    NodeStarts("app", MODEL, "one").failed("no GPU", True, 100)
    NodeStarts("app", MODEL, "two").failed("out of memory", False, 110)
    NodeStarts("other", MODEL, "two").failed("no folder", True, 120)
    seen = failing("app", ["a/model", "a", "b"], 130)
    assert seen == {"a/model": {"reason": "out of memory", "permanent": False, "count": 1, "at": 110}}
    assert failing("app", ["a/model"], 111 + FORGOTTEN_S) == {}
