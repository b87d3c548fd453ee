"""A model that grows fills a GPU before it takes another. The GPUs are logical: Ray counts them, nobody uses them."""

from __future__ import annotations

from tests.support.script import run_script


def test_four_quarters_of_a_gpu_are_one_gpu() -> None:
    found = run_script("packing.py", timeout_s=180)
    assert found["ready"] == 4 and set(found["statuses"]) == {200}
    assert found["three_whole"]
    # The ingress process on the other node is on /metrics too, nothing is missing, and each scrape shows the same.
    first, *others = found["completions"]
    assert len(first) == 2
    assert sum(first.values()) == len(found["statuses"])
    assert others == [first] * len(others)
