"""What a service with vLLM tells of requests: traces into the engine, latencies, and logs."""

from __future__ import annotations

import secrets
from collections import Counter

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import TEXT
from tests.support.collector import Collector
from tests.support.service import Service, logged

HELLO = [{"role": "user", "content": "Hello"}]
ASKED = {
    "/v1/chat/completions": {"messages": HELLO, "max_tokens": 4},
    "/v1/completions": {"prompt": "Hello", "max_tokens": 4},
    "/v1/responses": {"input": "Hello", "max_output_tokens": 4},
    "/v1/messages": {"messages": HELLO, "max_tokens": 4},
}


@pytest.mark.parametrize("path", ASKED)
def test_vllms_own_span_joins_the_trace(http: httpx.Client, collector: Collector, path: str) -> None:
    trace, client = secrets.token_hex(16), secrets.token_hex(8)
    headers = {"traceparent": f"00-{trace}-{client}-01"}
    answer = http.post(path, json={"model": TEXT, "ignore_eos": True, **ASKED[path]}, headers=headers)
    assert answer.status_code == 200
    found = collector.until(trace, "attempt", "replica", "llm_request")
    assert found["llm_request"].parent == found["replica"].id and found["replica"].parent == found["attempt"].id
    assert found["llm_request"].service == found["replica"].service == "serve-app-engine"
    tokens = found["replica"].attributes
    assert tokens["gen_ai.usage.output_tokens"] == found["llm_request"].attributes["gen_ai.usage.completion_tokens"]
    assert tokens["gen_ai.usage.input_tokens"] == found["llm_request"].attributes["gen_ai.usage.prompt_tokens"] > 0


def test_nothing_else_of_vllm_makes_spans(http: httpx.Client, collector: Collector) -> None:
    before = len(collector.spans)
    http.post("/v1/completions", json={"model": TEXT, "prompt": "Hello", "max_tokens": 2})
    trace = secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
    http.post("/v1/completions", json={"model": TEXT, "prompt": "Hello", "max_tokens": 2}, headers=headers)
    collector.until(trace, "text_completion lfm2-demo", "attempt", "replica", "llm_request")
    assert {span.trace for span in collector.spans[before:]} == {trace}
    names = {span.name.partition(" ")[0] for span in collector.spans}
    assert names <= {"chat", "text_completion", "wait", "attempt", "replica", "llm_request"}


LATENCIES = {
    "gen_ai_server_time_to_first_token_seconds": "vllm:time_to_first_token_seconds",
    "gen_ai_server_time_per_output_token_seconds": "vllm:request_time_per_output_token_seconds",
    "gen_ai_server_request_duration_seconds": "vllm:e2e_request_latency_seconds",
}
"""By OpenTelemetry's names, each with the metric in which vLLM itself measures the same from where it is."""


def latencies(http: httpx.Client) -> Counter[str]:
    """Of the text model on all replicas: how often and how long in all, by the name of the sample."""
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(http.get("/metrics").text):
        for sample in family.samples:
            if sample.name.endswith(("_count", "_sum")) and TEXT in sample.labels.values():
                found[sample.name] += sample.value
    return found


def test_latencies_are_those_that_the_engine_sees_from_further_inside(http: httpx.Client) -> None:
    before = latencies(http)
    body = {"model": TEXT, "messages": HELLO, "max_tokens": 32, "ignore_eos": True}
    for change in ({}, {"stream": True}, {"n": 2}):
        assert http.post("/v1/chat/completions", json=body | change).status_code == 200
    spent = latencies(http)
    spent.subtract(before)
    # vLLM counts sequences, and two of one request have one first token.
    assert [spent[f"{name}_count"] for name in LATENCIES] == [3, 4, 3]
    assert [spent[f"{name}_count"] for name in LATENCIES.values()] == [4, 4, 4]
    for name, engines in LATENCIES.items():
        ours, theirs = (spent[f"{one}_sum"] / spent[f"{one}_count"] for one in (name, engines))
        assert theirs / 2 < ours < theirs + 0.1, name


def test_vllms_log_is_json_in_both_of_its_processes(service: Service) -> None:
    lines = [line for line in logged(service) if line["logger"].startswith("vllm.")]
    assert {line["part"] for line in lines} == {"engine"} and len({line["replica"] for line in lines}) == 3
    assert any(line["logger"].startswith("vllm.v1.worker") for line in lines), "the engine's own process"
