"""The batch replica put together, without Ray Serve around it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from serve_app.batch.api import application
from serve_app.batch.deployment import BatchReplica
from serve_app.config.schema import ServiceConfig
from serve_app.replica.protocol import TOKEN_HEADER
from serve_app.routing import registry


class Handle:
    """A model without replicas."""

    def options(self, method_name: str) -> Handle:
        return self


class Replica(BatchReplica):
    """Serve awaits the finalizer, Python would not."""

    def __del__(self) -> None: ...


async def test_a_replica_with_a_damaged_database_stays_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Serve would replace one whose constructor or health check fails, without end."""
    monkeypatch.setattr(application, "UNUSABLE_AGAIN_S", 0.05)
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "127.0.0.1")
    context = SimpleNamespace(app_name="app", replica_id=SimpleNamespace(unique_id="id"))
    monkeypatch.setattr("ray.serve.get_replica_context", lambda: context)
    database = tmp_path / "batch.sqlite3"
    database.write_bytes(b"no database" * 1000)
    config = ServiceConfig.model_validate(
        {"models": [{"id": "m", "engine": "simulated"}], "batch": {"directory": str(tmp_path)}}
    )
    replica = Replica.__new__(Replica)
    await replica.__init__(config, {"m": Handle()})
    info = replica.record_replica_metadata()
    headers = {TOKEN_HEADER.decode(): info["token"]}
    async with httpx.AsyncClient(base_url=info["url"], headers=headers) as http:
        answer = await http.get("/v1/files")
        assert answer.status_code == 503 and "is damaged" in answer.json()["error"]["message"]
        replica.check_health()
        database.unlink()
        async with asyncio.timeout(10):
            while (answer := await http.get("/v1/files")).status_code != 200:
                await asyncio.sleep(0.02)
        assert "serve_app_batches" in (await http.get("/metrics")).text
    replica.check_health()
    await BatchReplica.__del__(replica)
    registry.unregister("m")
