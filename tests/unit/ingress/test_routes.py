"""The ingress application without Ray: what it answers by itself."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import aiohttp
import httpx
import pytest

from serve_app.accounts.limiter import Limiter
from serve_app.config.keys import KeyConfig
from serve_app.config.schema import ModelConfig
from serve_app.http.model_routes import MODEL_ROUTES
from serve_app.ingress.authentication import Authentication
from serve_app.ingress.body import BodyReader
from serve_app.ingress.docs import Docs
from serve_app.ingress.keyring import Keyring
from serve_app.ingress.metrics_pages import MetricsPages
from serve_app.ingress.models import Models
from serve_app.ingress.routes import IngressApp
from serve_app.ingress.status import Status
from serve_app.ingress.unoffered import Unoffered
from serve_app.routing.catalogue import Catalogue, Served
from serve_app.routing.metrics import Metrics
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits
from serve_app.routing.router import Router
from tests.support.replicas import published

KEY = {"authorization": "Bearer key"}
LIMITED = KeyConfig(name="limited", key="two", models=("down",))
JSON = {"content-type": "application/json"}


def served(name: str, *replicas: str, **entry: object) -> Served:
    pool = ReplicaPool(name, QueueLimits(1, 0.05, 0.05))
    said = {"model": name, "created": 1700000000, "versions": {"vllm": "0.32.0"}}
    pool.update([published(replica, **said) for replica in replicas])
    return Served(ModelConfig.model_validate({"id": name, **entry}), pool)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    catalogue = Catalogue([served("owner/up", "a", aliases=["u"]), served("down", autoscaling={"max_replicas": 2})])
    async with aiohttp.ClientSession() as session:
        pages = [
            Models(catalogue),
            Status(catalogue),
            MetricsPages(catalogue, metrics := Metrics(), session),
            Docs(catalogue, session),
            Unoffered(),
        ]
        app = IngressApp(
            Router(catalogue, metrics),
            Authentication(Keyring(["key"], [LIMITED])),
            pages,
            BodyReader(2**22, 2**24),
            Limiter([LIMITED], lambda: 1),
        )
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=KEY) as client:
            yield client


async def test_a_key_is_asked_for_except_by_probes(http: httpx.AsyncClient) -> None:
    del http.headers["authorization"]
    assert (await http.get("/health")).status_code == 200
    assert (await http.get("/ready")).status_code == 503
    for path in ("/v1/models", "/metrics", "/autoscaling", "/docs", "/nothing"):
        assert (await http.get(path)).status_code == 401
    assert (await http.post("/v1/chat/completions", json={})).status_code == 401


async def test_models_by_id_and_alias(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/v1/models")).json()["data"]
    assert [(model["id"], model["parent"], model["replicas"]) for model in listed] == [
        ("owner/up", None, 1),
        ("u", "owner/up", 1),
        ("down", None, 0),
    ]
    one = (await http.get("/v1/models/owner/up")).json()
    assert (one["owned_by"], one["max_model_len"], one["created"]) == ("owner", 4096, 1700000000)


async def test_adapters_are_listed_with_what_they_are_of() -> None:
    one = {"list": [{"id": "tuned", "source": "/adapters/tuned"}]}
    catalogue = Catalogue([served("owner/up", "a", aliases=["u"], adapters=one)])
    page = Models(catalogue)
    app = IngressApp(
        Router(catalogue), Authentication(Keyring([])), [page], BodyReader(2**22, 2**24), Limiter((), lambda: 1)
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        *_, tuned = (await client.get("/v1/models")).json()["data"]
        assert (await client.get("/v1/models/tuned")).json() == tuned
    assert [tuned[name] for name in ("id", "root", "parent", "replicas", "max_model_len")] == [
        *("tuned", "/adapters/tuned", "owner/up", 1, 4096)
    ]


async def test_a_key_for_some_models_is_told_of_no_others(http: httpx.AsyncClient) -> None:
    http.headers["authorization"] = "Bearer two"
    assert [model["id"] for model in (await http.get("/v1/models")).json()["data"]] == ["down"]
    unknown = (await http.get("/v1/models/nope")).json()["error"]["message"]
    for answer in (
        await http.get("/v1/models/u"),
        await http.post("/v1/completions", json={"model": "owner/up", "prompt": "a"}),
    ):
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (404, "model_not_found")
        assert "Served here: 'down'" in error["message"] and "Did you mean" not in error["message"]
    assert "Served here: 'down'" in unknown
    assert (await http.post("/v1/completions", json={"prompt": "a"})).status_code == 503
    assert (await http.get("/metrics")).json()["error"]["code"] == "permission_denied"


async def test_ready_counts_each_model(http: httpx.AsyncClient) -> None:
    answer = await http.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["models"] == {"owner/up": {"ready": 1, "wanted": 1}, "down": {"ready": 0, "wanted": 1}}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "unknown_route"),
        ("GET", "/nothing/", 404, "unknown_route"),
        ("GET", "//v1/models", 404, "unknown_route"),
        ("GET", "/v1/models/..%2fx", 404, "model_not_found"),
        ("GET", "/v1/models/" + "a" * 5000, 404, "model_not_found"),
        ("GET", "/v1/responses/resp_1", 501, "not_offered"),
        ("DELETE", "/v1/responses/resp_1", 501, "not_offered"),
        ("POST", "/v1/responses/resp_1/cancel", 501, "not_offered"),
        ("POST", "/v1/chat/completions/render", 501, "not_offered"),
        ("BREW", "/v1/models", 405, "method_not_allowed"),
        ("BREW", "/nothing", 404, "unknown_route"),
        ("GET", "/v1/models/nope", 404, "model_not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("PUT", "/v1/completions", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
    ],
)
async def test_errors_are_in_openais_schema(
    http: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    answer = await http.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code) and len(answer.text) < 1000


@pytest.mark.parametrize(
    ("method", "path", "location"),
    [
        ("GET", "/v1/models/", "/v1/models"),
        ("HEAD", "/v1/models/", "/v1/models"),
        ("GET", "/v1/models/owner/up/", "/v1/models/owner/up"),
        ("GET", "/health//?a=b%20c&d", "/health?a=b%20c&d"),
        ("POST", "/v1/chat/completions/", "/v1/chat/completions"),
        ("POST", "/v1/messages/count_tokens/", "/v1/messages/count_tokens"),
        ("PUT", "/v1/completions/", "/v1/completions"),
        ("GET", "/v1/models/%0dset-cookie:%20a%25%3f/", "/v1/models/%0Dset-cookie%3A%20a%25%3F"),
    ],
)
async def test_a_slash_at_the_end_is_redirected(http: httpx.AsyncClient, method: str, path: str, location: str) -> None:
    answer = await http.request(method, path, content=b"{}" if method == "POST" else None)
    assert (answer.status_code, answer.headers["location"], answer.content) == (307, location, b"")


async def test_a_redirect_asks_for_the_key_that_its_route_does(http: httpx.AsyncClient) -> None:
    del http.headers["authorization"]
    assert (await http.get("/v1/models/")).status_code == 401
    assert (await http.get("/health/")).status_code == 307


@pytest.mark.parametrize("route", MODEL_ROUTES)
async def test_every_route_of_a_model_goes_to_its_replicas(http: httpx.AsyncClient, route: str) -> None:
    error = (await http.post(route, json={"model": "down"})).json()
    assert "no replica of 'down' is ready" in error["error"]["message"]


async def test_a_path_in_other_letters_is_the_same_route(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/%63hat/completions", json={"model": "down"})
    assert answer.status_code == 503
    assert (await http.head("/v1/models")).status_code == 200


async def test_ping_is_ready_without_a_word(http: httpx.AsyncClient) -> None:
    del http.headers["authorization"]
    for method in ("GET", "POST"):
        answer = await http.request(method, "/ping")
        assert (answer.status_code, answer.content) == (503, b"")


@pytest.mark.parametrize("name", ["owner/u", "x" * 2**20, "\ud800", "\n" * 300])
async def test_a_name_in_an_error_is_short(http: httpx.AsyncClient, name: str) -> None:
    answer = await http.post("/v1/completions", content=json.dumps({"model": name}), headers=JSON)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (404, "model_not_found") and len(error["message"]) < 1000
    assert ("Did you mean" in error["message"]) == (name == "owner/u")


async def test_options_needs_no_key_and_is_no_method_of_any_route(http: httpx.AsyncClient) -> None:
    del http.headers["authorization"]
    for path in ("/v1/chat/completions", "/v1/models"):
        answer = await http.options(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
        assert answer.headers["allow"]


async def test_errors_on_anthropics_route_are_in_its_schema(http: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/json"}
    asked = {
        401: http.post("/v1/messages", json={}, headers={"authorization": ""}),
        405: http.get("/v1/messages/count_tokens"),
        413: http.post("/v1/messages", content=b" " * (2**22 + 1), headers=headers),
        415: http.post("/v1/messages", content=b"{}"),
        400: http.post("/v1/messages", content=b"{", headers=headers),
        404: http.post("/v1/messages", json={"model": "nope"}),
        503: http.post("/v1/messages", json={"model": "down", "messages": []}),
    }
    for status, pending in asked.items():
        answer = await pending
        assert answer.status_code == status
        told = answer.json()
        assert told.keys() == {"type", "error", "request_id"} and told["type"] == "error"
        assert told["error"].keys() == {"type", "message"} and told["error"]["message"]


async def test_a_model_without_replicas_is_503_and_counted(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/completions", json={"model": "down", "prompt": "a"})
    assert answer.status_code == 503 and answer.headers["retry-after"]
    assert 'model="down",route="/v1/completions",status="503"' in (await http.get("/metrics")).text


@pytest.mark.parametrize(
    ("body", "param", "number"),
    [
        ({"n": 2000}, "n", "2000"),
        ({"n": 2, "prompt": ["a"] * 65}, "n", "130"),
        ({"prompt": ["a"] * 1000}, "prompt", "1000"),
        ({"input": [[1, 2]] * 129}, "input", "129"),
    ],
)
async def test_a_request_that_is_too_many_is_400(http: httpx.AsyncClient, body: dict, param: str, number: str) -> None:
    answer = await http.post("/v1/completions", json={"model": "owner/up", **body})
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["param"] == param and error["code"] == "too_many_sequences"
    assert number in error["message"] and "128" in error["message"]


async def test_picks_are_counted_by_place(http: httpx.AsyncClient) -> None:
    await http.post("/v1/completions", json={"model": "owner/up", "prompt": "a"})
    text = (await http.get("/metrics")).text
    assert 'serve_app_affinity_picks_total{model="owner/up",place="none"} 1.0' in text
    assert 'serve_app_affinity_picks_total{model="down",place="home"} 0.0' in text


async def test_docs_work_before_any_engine_does(http: httpx.AsyncClient) -> None:
    assert "/v1/chat/completions" in (await http.get("/docs")).text
    assert (await http.get("/openapi.json")).status_code == 503
