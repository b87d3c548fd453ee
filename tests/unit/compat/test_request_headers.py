"""Headers that Ray Serve cannot read. Fails where Serve has moved, or reads them itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve._private.replica import Replica

from serve_app.compat.request_headers import READ, refuse_unreadable

SERVE = SimpleNamespace(
    _user_callable_initialized=True,
    _route_prefix="/",
    _http_options=SimpleNamespace(request_timeout_s=None),
    _parse_request_timeout=lambda headers: Replica._parse_request_timeout(SERVE, headers),
)


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Replica, "_direct_ingress_asgi", Replica._direct_ingress_asgi)
    refuse_unreadable()
    yield


async def answer(name: bytes, value: bytes) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/v1/models", "headers": [(name, value)]}
    await Replica._direct_ingress_asgi(SERVE, scope, None, send)
    return sent


@pytest.mark.parametrize("name", [*sorted(READ), b"serve_multiplexed_model_id"])
async def test_serve_itself_fails_on_them(name: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        await answer(name, b"\xff")


@pytest.mark.parametrize("name", [*sorted(READ), b"serve_multiplexed_model_id"])
async def test_they_are_the_clients_error(patched: None, name: bytes) -> None:
    start, body = await answer(name, b"a\xff")
    assert start["status"] == 400
    assert name.decode() in json.loads(body["body"])["error"]["message"]


@pytest.mark.parametrize(
    "header", [(b"x-request-id", b"mine"), (b"x-request-id", "é".encode()), (b"x-other", b"\xff")], ids=str
)
async def test_what_serve_reads_goes_on_to_it(patched: None, header: tuple[bytes, bytes]) -> None:
    with pytest.raises(AttributeError):  # of the rest of Serve's replica, which is not here
        await answer(*header)
