"""Adapters loaded and unloaded by request, before a simulated engine and without Ray."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import httpx
import pytest

from serve_app.accounts.limiter import Limiter
from serve_app.config.keys import KeyConfig
from serve_app.config.schema import ServiceConfig
from serve_app.engine.simulation import SimulatedEngine
from serve_app.ingress.adapters import AdapterPages
from serve_app.ingress.authentication import Authentication
from serve_app.ingress.body import BodyReader
from serve_app.ingress.keyring import Keyring
from serve_app.ingress.models import Models
from serve_app.ingress.routes import IngressApp
from serve_app.planning.resolve import resolve
from serve_app.replica.server import ReplicaServer
from serve_app.routing.catalogue import Catalogue, Served
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.queue import QueueLimits
from serve_app.routing.router import Router
from tests.support.adapters import DEMO, configured, copied
from tests.support.replicas import published

KEYS = [KeyConfig(name="admin", key="admin", admin=True), KeyConfig(name="user", key="user", models=("lfm2-demo",))]
ADMIN, USER = ({"authorization": f"Bearer {name}"} for name in ("admin", "user"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    copied(tmp_path / "adapters" / "capitals", "capitals")
    return tmp_path / "adapters"


@pytest.fixture
async def http(root: Path) -> AsyncIterator[httpx.AsyncClient]:
    listed = {"id": "listed", "source": "package:demo/adapters/kettle"}
    adapters = {"directory": str(root), "max_rank": 8, "max_loaded": 1, "list": [listed]}
    entry = {"id": "lfm2-demo", "gpus": 0, "engine": "simulated", "adapters": adapters}
    model = resolve(ServiceConfig.parse({"models": [entry]})).config.models[0]
    server = ReplicaServer(SimulatedEngine(model).app, token="t", capacity=8, failure=lambda: None)
    pool = ReplicaPool("lfm2-demo", QueueLimits(8, 1, 1))
    pool.update([published("a", url=await server.start("127.0.0.1"))])
    catalogue = Catalogue([Served(model, pool)])
    router = Router(catalogue)
    await router.adapters.look()
    async with aiohttp.ClientSession() as session:
        app = IngressApp(
            router,
            Authentication(Keyring([], KEYS)),
            [Models(catalogue), AdapterPages(catalogue, router.adapters, session)],
            BodyReader(2**22, 2**24),
            Limiter(KEYS, lambda: 1),
        )
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://test", headers=ADMIN
        ) as client:
            yield client
    await server.stop()


async def models(http: httpx.AsyncClient) -> list[str]:
    return [one["id"] for one in (await http.get("/v1/models", headers=USER)).json()["data"]]


async def ask(http: httpx.AsyncClient, model: str) -> httpx.Response:
    return await http.post("/v1/completions", json={"model": model, "prompt": "a"}, headers=USER)


async def change(http: httpx.AsyncClient, what: str, name: str, **more: object) -> httpx.Response:
    return await http.post(f"/v1/{what}_lora_adapter", json={"lora_name": name, **more})


async def test_loaded_served_and_unloaded(http: httpx.AsyncClient, root: Path) -> None:
    assert await models(http) == ["lfm2-demo", "listed", "capitals"]
    folder = copied(root / "more" / "kettle")
    answer = await change(http, "load", "tea", lora_path=str(folder))
    assert (answer.status_code, answer.text) == (200, "Success: LoRA adapter 'tea' added successfully.")
    assert "tea" in await models(http) and (await ask(http, "tea")).json()["model"] == "tea"
    again = await change(http, "load", "tea", lora_path=str(folder))
    assert again.json()["error"]["code"] == "name_taken"
    assert (await change(http, "load", "tea", lora_path="more/kettle", load_inplace=True)).status_code == 200
    assert (await change(http, "unload", "tea")).text == "Success: LoRA adapter 'tea' removed successfully."
    assert (await change(http, "unload", "capitals")).status_code == 200
    assert await models(http) == ["lfm2-demo", "listed"]
    assert (await ask(http, "tea")).status_code == 404
    assert (await change(http, "load", "capitals", lora_path="capitals")).status_code == 200
    assert await models(http) == ["lfm2-demo", "listed", "capitals"]


async def test_a_folder_that_has_just_come_is_served_with_the_first_request_for_it(
    http: httpx.AsyncClient, root: Path
) -> None:
    assert (await ask(http, "fresh")).status_code == 404
    copied(root / "fresh")
    while (answer := await ask(http, "fresh")).status_code == 404:
        await asyncio.sleep(0.02)
    assert answer.json()["model"] == "fresh"


@pytest.mark.parametrize(
    ("name", "path", "code"),
    [
        ("lfm2-demo", "capitals", "name_taken"),
        ("listed", "capitals", "adapter_listed"),
        ("other", str(DEMO / "kettle"), "path_not_allowed"),
        ("other", "../adapters/../../etc", "path_not_allowed"),
        ("other", "nothing", "adapter_unusable"),
        ("large", "large", "adapter_unusable"),
        (" other", "capitals", "invalid_value"),
    ],
)
async def test_what_is_not_loaded(http: httpx.AsyncClient, root: Path, name: str, path: str, code: str) -> None:
    configured(copied(root / "large"), r=64)
    answer = await change(http, "load", name, lora_path=path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert (await ask(http, "capitals")).status_code == 200


async def test_a_broken_adapter_says_why_to_whoever_asks_it(http: httpx.AsyncClient, root: Path) -> None:
    configured(copied(root / "large"), r=64)
    await change(http, "load", "again", lora_path="capitals")
    error = (await ask(http, "large")).json()["error"]
    assert error["message"] == "the adapter 'large' cannot be used: its rank is 64, and max_rank of lfm2-demo is 8"
    assert "large" not in await models(http)


async def test_only_an_admin_changes_adapters_and_bodies_are_bounded(http: httpx.AsyncClient) -> None:
    body = {"lora_name": "tea", "lora_path": "capitals"}
    assert (await http.post("/v1/load_lora_adapter", json=body, headers=USER)).status_code == 403
    assert (await http.post("/v1/unload_lora_adapter", json=body, headers=USER)).status_code == 403
    assert (await change(http, "load", "tea", lora_path="a" * 2**17)).status_code == 413
    assert (await http.post("/v1/load_lora_adapter", json={"lora_name": "tea"})).status_code == 400
    unknown = (await change(http, "unload", "capital")).json()["error"]
    assert unknown["code"] == "model_not_found" and "Did you mean 'capitals'" in unknown["message"]


async def test_what_cannot_be_kept_is_not_loaded(http: httpx.AsyncClient, root: Path) -> None:
    (root / ".serve-app-adapters.lock").mkdir()
    answer = await change(http, "load", "tea", lora_path="capitals")
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "not_kept")
    assert "tea" not in await models(http)
