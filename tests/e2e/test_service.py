"""What the service says of itself."""

from __future__ import annotations

import time

import httpx
import openai

from tests.e2e.conftest import TEXT, VISION

ENGINE_SIGNALS = ("running", "output_tokens_per_s", "ttft_s", "arrivals_per_s", "service_s")


def test_models_lists_ids_and_aliases(client: openai.OpenAI) -> None:
    models = {model.id: model for model in client.models.list()}
    assert {TEXT, "demo", VISION} <= models.keys()
    assert models[TEXT].max_model_len > 0 and models["demo"].root == TEXT and models[TEXT].aliases == ["demo"]
    assert client.models.retrieve(VISION).kind == "vision"


def test_probes(http: httpx.Client) -> None:
    assert http.get("/health").json() == {"status": "ok"}
    ready = http.get("/ready").json()
    assert ready["status"] == "ready" and ready["models"][TEXT] == {"ready": 2, "wanted": 2}
    assert http.get("/version").json()["engines"][TEXT]["vllm"]


def test_scripts_of_a_listed_origin_are_let_in(http: httpx.Client) -> None:
    page = {"origin": "https://app.example.com"}
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    preflight = http.options("/v1/chat/completions", headers=page | asked)
    assert preflight.status_code == 200 and "authorization" in preflight.headers["access-control-allow-headers"]
    body = {"model": TEXT, "prompt": "a", "max_tokens": 2}
    for change in ({}, {"stream": True}, {"model": "nope"}):
        answer = http.post("/v1/completions", json=body | change, headers=page)
        assert answer.headers["access-control-allow-origin"] == page["origin"]
    refused = http.options("/v1/completions", headers=asked | {"origin": "https://evil.example"})
    assert refused.status_code == 400 and refused.json()["error"]["message"]
    assert http.options("/v1/completions").status_code == 405


def test_docs_show_the_api(http: httpx.Client) -> None:
    page = http.get("/docs").text
    assert "/v1/chat/completions" in page and "temperature" in page
    paths = http.get("/openapi.json").json()["paths"]
    assert {"/v1/chat/completions", "/v1/models", "/ready"} <= paths.keys() and "/pause" not in paths


def test_metrics_of_the_ingress_and_every_engine(http: httpx.Client) -> None:
    http.post("/v1/completions", json={"model": TEXT, "prompt": "a", "max_tokens": 1})
    text = http.get("/metrics").text
    assert 'serve_app_requests_total{key="",model="lfm2-demo",route="/v1/completions",status="200"}' in text
    assert text.count("vllm:num_requests_running{") == 3


def test_autoscaling_sees_what_the_engine_does(http: httpx.Client) -> None:
    body = {"model": VISION, "prompt": "Once upon a time", "max_tokens": 64, "ignore_eos": True}
    deadline = time.monotonic() + 60
    seen: dict[str, float] = {}
    while time.monotonic() < deadline and not all(seen.get(name) for name in ENGINE_SIGNALS):
        assert http.post("/v1/completions", json=body).status_code == 200
        seen = http.get("/autoscaling").json()["models"][VISION].get("inputs", {})
    assert all(seen[name] > 0 for name in ENGINE_SIGNALS)
    assert seen["ttft_s"] < seen["service_s"] < 60 and seen["kv_usage"] < 1
    assert seen["running"] <= 1.5, "one request at a time"
