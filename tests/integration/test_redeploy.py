"""A redeploy replaces every engine replica, loses no request and cuts no stream."""

from __future__ import annotations

from tests.support.script import run_script


def test_a_redeploy_under_load_loses_nothing() -> None:
    found = run_script("redeploy.py", timeout_s=180)
    assert found["replicas"] == 4
    assert found["streams"] == {"whole": 4}
    assert found["meanwhile"] > 0, "nobody was served while the old ingress ended its streams"
    assert set(found["statuses"]) == {"200"} and found["statuses"]["200"] > 16
