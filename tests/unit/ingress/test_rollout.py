"""What the last deploy has come to, as pages show it."""

from __future__ import annotations

import pytest

from serve_app.compat.serve_status import RolloutState
from serve_app.ingress.rollout import Rollout

FAILED = RolloutState("failed", "m: there is no folder /w", frozenset({"n"}))


def test_the_reason_is_for_who_has_a_key() -> None:
    rollout = Rollout("app")
    assert rollout.shown(reasons=True) == {}
    rollout.tell(FAILED)
    assert rollout.shown(reasons=False) == {"deploy": {"state": "failed"}}
    assert rollout.shown(reasons=True) == {"deploy": {"state": "failed", "reason": FAILED.reason}}
    assert rollout.settled("n") and not rollout.settled("m")
    rollout.tell(RolloutState("running"))
    assert rollout.shown(reasons=True) == {}


def test_the_log_tells_it_once(caplog: pytest.LogCaptureFixture) -> None:
    rollout = Rollout("app")
    rollout.tell(RolloutState("changing"))
    assert not caplog.messages
    rollout.tell(FAILED)
    told = len(caplog.messages)
    assert told and FAILED.reason in caplog.messages[0]
    rollout.tell(FAILED)
    assert len(caplog.messages) == told
