"""What a running service tells of a request: its trace, and lines of the log."""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

import httpx

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


def test_what_became_of_spans_is_counted(simulated: Service, collector: Collector) -> None:
    untraced = {"traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"}
    httpx.post(f"{simulated.url}/v1/chat/completions", json=BODY, headers=untraced, timeout=30)
    page = httpx.get(f"{simulated.url}/metrics", timeout=10).text
    counted = re.findall(r'^serve_app_(?:engine_)?spans_total\{fate="sent".*\} (\S+)$', page, re.M)
    assert sum(map(float, counted)) == len(collector.spans)
    assert not re.findall(r'^serve_app_(?:engine_)?spans_total\{fate="(?:dropped|failed)".*\} [^0]', page, re.M)


def test_latencies_are_measured_by_opentelemetrys_names(simulated: Service) -> None:
    httpx.post(f"{simulated.url}/v1/chat/completions", json=BODY, timeout=30)
    page = httpx.get(f"{simulated.url}/metrics", timeout=10).text
    labels = r'gen_ai_operation_name="chat",gen_ai_provider_name="serve_app",gen_ai_request_model="pair",replica="\w+"'
    for name in ("time_to_first_token", "time_per_output_token"):
        assert re.search(rf"^gen_ai_server_{name}_seconds_count{{{labels}}} [1-9]", page, re.M), name
    assert re.search(r'^gen_ai_server_request_duration_seconds_bucket{error_type="",.*le="81.92",.*} [1-9]', page, re.M)
    families = [line.split()[2] for line in page.splitlines() if line.startswith("# TYPE ")]
    assert len(families) == len(set(families))


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
