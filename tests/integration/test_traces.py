"""What a running service tells of a request: its trace, and lines of the log."""

from __future__ import annotations

import secrets
import time
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.collector import Collector
from tests.support.service import Service, logged

BODY = {"model": "pair", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5, "stream": True}


def test_a_clients_trace_goes_on_to_the_replica(simulated: Service, collector: Collector) -> None:
    trace, client = secrets.token_hex(16), secrets.token_hex(8)
    headers = {"traceparent": f"00-{trace}-{client}-01", "x-request-id": "traced"}
    answer = httpx.post(f"{simulated.url}/v1/chat/completions", json=BODY, headers=headers, timeout=30)
    assert answer.status_code == 200
    found = collector.until(trace, "chat pair", "attempt", "replica")
    assert [found[name].parent for name in ("chat pair", "attempt", "replica")] == [
        client,
        found["chat pair"].id,
        found["attempt"].id,
    ]
    assert found["chat pair"].attributes["http.request.header.x-request-id"] == ["traced"]
    assert found["replica"].attributes["gen_ai.usage.output_tokens"] == 5


def samples(service: Service, name: str, **labels: str) -> float:
    """The sum of what /metrics has of this name with these labels."""
    families = list(text_string_to_metric_families(httpx.get(f"{service.url}/metrics", timeout=10).text))
    assert len({family.name for family in families}) == len(families)
    found = [one for family in families for one in family.samples if one.name == name]
    return sum(one.value for one in found if labels.items() <= one.labels.items())


def test_what_became_of_spans_is_counted(simulated: Service, collector: Collector) -> None:
    untraced = {"traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"}
    httpx.post(f"{simulated.url}/v1/chat/completions", json=BODY, headers=untraced, timeout=30)
    counted = {
        fate: sum(samples(simulated, f"serve_app_{part}spans_total", fate=fate) for part in ("", "engine_", "batch_"))
        for fate in ("sent", "dropped", "failed")
    }
    assert counted == {"sent": len(collector.spans), "dropped": 0, "failed": 0}


def test_latencies_are_measured_by_opentelemetrys_names(simulated: Service) -> None:
    httpx.post(f"{simulated.url}/v1/chat/completions", json=BODY, timeout=30)
    labels = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "serve_app",
        "gen_ai_request_model": "pair",
    }
    for name in ("time_to_first_token", "time_per_output_token", "request_duration"):
        assert samples(simulated, f"gen_ai_server_{name}_seconds_count", **labels) > 0, name
    bucket = {"le": "81.92", "error_type": ""}
    assert samples(simulated, "gen_ai_server_request_duration_seconds_bucket", **labels, **bucket) > 0


def about(service: Service, request: str) -> list[dict[str, Any]]:
    return [line for line in logged(service) if line.get("request_id") == request]


def test_the_log_says_which_request_a_line_is_about(simulated: Service) -> None:
    trace = secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01", "x-request-id": "fatal"}
    body = BODY | {"model": "trio", "messages": [{"role": "user", "content": "SIMULATE:die"}], "max_tokens": 50}
    httpx.post(f"{simulated.url}/v1/chat/completions", json=body, headers=headers, timeout=60)
    deadline = time.monotonic() + 30
    found: list[dict[str, Any]] = []
    while not any("was lost" in line["message"] for line in found):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
        found = about(simulated, "fatal")
    assert {line["part"] for line in found} >= {"ingress"} and {line["trace_id"] for line in found} == {trace}
    assert {line["part"] for line in logged(simulated)} >= {"ingress", "engine"}
