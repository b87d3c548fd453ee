"""Two Ray nodes on one machine, an engine replica on each."""

from __future__ import annotations

from tests.support.script import run_script


def test_a_replica_on_each_of_two_nodes() -> None:
    found = run_script("two_nodes.py", timeout_s=240)
    assert len(found["nodes"]) == 2 and found["free_cpus"] == 0
    assert set(found["statuses"]) == {200}
    assert len([tokens for tokens in found["tokens"].values() if tokens > 0]) == 2
