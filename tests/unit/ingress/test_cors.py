"""Scripts of other origins' pages: let in where the configuration lists them."""

from __future__ import annotations

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from serve_app.config.schema import IngressConfig
from serve_app.http.errors import ApiError
from serve_app.ingress.cors import for_origins

PAGE = "https://app.example.com"
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}


async def locked(scope: Scope, receive: Receive, send: Send) -> None:
    """Asks everybody for a key."""
    await ApiError(401, "no key", retry_after_s=1).answer(scope["path"], send)


async def ask(origins: list[str], method: str, origin: str, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(for_origins(locked, origins))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, "/v1/messages", headers={"origin": origin, **headers})


@pytest.mark.parametrize("origins", [[PAGE], ["https://other.example", PAGE], ["*"]])
async def test_a_preflight_needs_no_key(origins: list[str]) -> None:
    answer = await ask(origins, "OPTIONS", PAGE, **PREFLIGHT)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] in (PAGE, "*")
    assert "authorization" in answer.headers["access-control-allow-headers"]
    assert "POST" in answer.headers["access-control-allow-methods"]


async def test_answers_carry_the_headers_errors_too() -> None:
    answer = await ask([PAGE], "POST", PAGE)
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "retry-after" in answer.headers["access-control-expose-headers"]


async def test_other_pages_are_refused_in_the_services_schema() -> None:
    answer = await ask([PAGE], "OPTIONS", "https://evil.example", **PREFLIGHT)
    assert answer.status_code == 400 and "ingress.cors" in answer.json()["error"]["message"]
    assert "access-control-allow-origin" not in answer.headers
    assert "access-control-allow-origin" not in (await ask([PAGE], "POST", "https://evil.example")).headers


def test_without_origins_nothing_stands_in_between() -> None:
    assert for_origins(locked, []) is locked


@pytest.mark.parametrize("origin", ["app.example.com", "https://app.example.com/", "https://a/b", "", "https://"])
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="scheme://host"):
        IngressConfig(cors=(origin,))


def test_origins() -> None:
    assert IngressConfig(cors=("*", PAGE, "http://localhost:3000", "chrome-extension://abc")).cors[0] == "*"
