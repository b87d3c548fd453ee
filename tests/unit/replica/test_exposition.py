"""The pages of many processes as one."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from serve_app.replica.exposition import join, part

PAGE = """\
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
# HELP serve_app_tokens_total Of nobody yet.
# TYPE serve_app_tokens_total counter
"""


def joined(*pages: tuple[str, str]) -> str:
    return join(part(page, "replica", process).encode() for process, page in pages).decode()


def test_families_stay_together_and_replicas_are_told_apart() -> None:
    assert joined(("a", PAGE), ("b", PAGE), ("c", "")).splitlines() == [
        "# HELP vllm:num_requests_running Running.",
        "# TYPE vllm:num_requests_running gauge",
        'vllm:num_requests_running{engine="0",model_name="m",replica="a"} 2.0',
        'vllm:num_requests_running{engine="0",model_name="m",replica="b"} 2.0',
        "# HELP vllm:e2e_seconds Time.",
        "# TYPE vllm:e2e_seconds histogram",
        'vllm:e2e_seconds_bucket{le="+Inf",replica="a"} 5.0',
        'vllm:e2e_seconds_count{replica="a"} 5.0',
        'vllm:e2e_seconds_bucket{le="+Inf",replica="b"} 5.0',
        'vllm:e2e_seconds_count{replica="b"} 5.0',
    ]


def test_a_family_that_only_some_have_and_one_without_help_are_there() -> None:
    own = '# TYPE vllm:new gauge\nvllm:new{reason="}{ \\n\u2028 \\"x\\""} 1.0\n'
    families = {one.name: one for one in text_string_to_metric_families(joined(("a", PAGE), ("b", own)))}
    assert families["vllm:new"].type == "gauge"
    (sample,) = families["vllm:new"].samples
    assert sample.labels == {"replica": "b", "reason": '}{ \n\u2028 "x"'}
    assert len(families["vllm:num_requests_running"].samples) == 1
