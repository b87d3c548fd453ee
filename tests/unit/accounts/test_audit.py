"""A line for each request, with what came of it."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from serve_app.accounts import audit as audit_module
from serve_app.accounts.audit import AuditLog
from serve_app.replica.admission import AdmissionControl
from serve_app.replica.ledger import Ledger, Used, current

NOON = 20_000 * 86_400 + 43_200.0


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.rglob("*.jsonl")) for line in path.read_text().splitlines()]


async def test_what_a_replica_answered(tmp_path: Path) -> None:
    async def engine(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()
        current.get().sequences.append(lambda: Used(10, 4, 7))
        await JSONResponse({"secret": 1}, 201)(scope, receive, send)

    log, ledger = AuditLog(tmp_path, "r"), Ledger("m")
    ledger.ended.append(lambda account: log.answered(account, "m"))
    app = AdmissionControl(engine, "t", 8, lambda: None, ledger=ledger)
    headers = {"x-replica-token": "t", "x-key-name": "a", "x-request-id": "mine", "x-waited-s": "0.25"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://a", headers=headers) as http:
        await http.post("/v1/completions", json={"prompt": "secret"})
        await http.post("/v1/completions", json={}, headers={"x-replica-token": "wrong"})
    log.close()
    (line,) = lines(tmp_path)
    assert line.pop("duration_s") >= line.pop("first_byte_s") >= 0 and line.pop("time").endswith("Z")
    assert line == {
        "request_id": "mine",
        "key": "a",
        "model": "m",
        "route": "/v1/completions",
        "status": 201,
        "prompt_tokens": 10,
        "cached_tokens": 4,
        "output_tokens": 7,
        "waited_s": 0.25,
    }
    (file,) = tmp_path.rglob("*.jsonl")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_the_ingress_refused_has_the_same_fields_in_the_file_of_its_day(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, "i")
    for day in range(2):
        log.refused(NOON + day * 86_400, request_id="", key="a", route="/v1/completions", status=429)
    log.close()
    assert [path.name for path in sorted(tmp_path.rglob("*.jsonl"))] == ["2024-10-04-i.jsonl", "2024-10-05-i.jsonl"]
    first, _ = lines(tmp_path)
    assert first["time"] == "2024-10-04T12:00:00.000Z" and (first["status"], first["model"]) == (429, None)


async def test_lines_are_kept_while_the_disk_takes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_module, "WRITE_S", 0.01)
    (blocked := tmp_path / "audit").touch()
    log = AuditLog(tmp_path, "i")
    following = asyncio.create_task(log.follow())
    for number in range(3):
        log.refused(NOON, request_id=str(number), key="", route="/", status=404)
        await asyncio.sleep(0.05)
    blocked.unlink()
    async with asyncio.timeout(10):
        while len(lines(tmp_path)) < 3:
            await asyncio.sleep(0.02)
    following.cancel()
    assert [line["request_id"] for line in lines(tmp_path)] == ["0", "1", "2"]
