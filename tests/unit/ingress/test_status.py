"""Merging the metrics of many replicas."""

from __future__ import annotations

from serve_app.ingress.status import merge

SCRAPED = """\
# HELP python_gc_objects_total Not the engine's.
# TYPE python_gc_objects_total counter
python_gc_objects_total 3.0
# HELP vllm:num_requests_running Running.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 2.0
# HELP vllm:e2e_seconds Time.
# TYPE vllm:e2e_seconds histogram
vllm:e2e_seconds_bucket{le="+Inf"} 5.0
vllm:e2e_seconds_count 5.0
"""


def test_families_stay_together_and_replicas_are_told_apart() -> None:
    lines = merge([("a", SCRAPED), ("b", SCRAPED), ("c", "")]).splitlines()
    assert lines[:4] == [
        "# HELP vllm:num_requests_running Running.",
        "# TYPE vllm:num_requests_running gauge",
        'vllm:num_requests_running{engine="0",model_name="m",replica="a"} 2.0',
        'vllm:num_requests_running{engine="0",model_name="m",replica="b"} 2.0',
    ]
    assert 'vllm:e2e_seconds_count{replica="b"} 5.0' in lines
    assert not any("python_gc" in line for line in lines)
