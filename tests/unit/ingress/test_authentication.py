"""Whose request it is, and what each key opens."""

from __future__ import annotations

import pytest

from serve_app.config.api_keys import digest_of
from serve_app.config.keys import UNNAMED, KeyConfig, unnamed
from serve_app.http.errors import ApiError
from serve_app.ingress.authentication import Authentication
from serve_app.ingress.keyring import Keyring

CHAT = "/v1/chat/completions"


def scope(path: str = CHAT, method: str = "POST", **headers: str) -> dict:
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"path": path, "method": method, "headers": sent}


def test_open_without_keys() -> None:
    assert Authentication(Keyring([])).owner(scope("/metrics")) is UNNAMED


def test_a_key_opens_as_bearer_or_x_api_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "two, three")
    authentication = Authentication(Keyring(["one", "env:KEYS"]))
    for key, headers in (
        ("one", {"authorization": "Bearer one"}),
        ("three", {"authorization": "bearer three"}),
        ("two", {"x_api_key": "two"}),
    ):
        assert authentication.owner(scope(**headers)) == unnamed(digest_of(key))


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer no"}, {"authorization": "one"}, {"x_api_key": ""}])
def test_anything_else_is_401(headers: dict[str, str]) -> None:
    with pytest.raises(ApiError) as refused:
        Authentication(Keyring(["one"])).owner(scope(**headers))
    assert refused.value.status == 401


def status(key: KeyConfig, path: str) -> int:
    """What the key `k` of this owner gets there."""
    try:
        found = Authentication(Keyring(["other"], [key])).owner(scope(path, x_api_key="k"))
    except ApiError as error:
        return error.status
    assert found is key
    return 200


@pytest.mark.parametrize(
    "path",
    ["/metrics", "/autoscaling", "/docs", "/openapi.json", "/metrics/", "/metrics/targets", "/console/api/models"],
)
def test_pages_about_others_need_an_admin(path: str) -> None:
    assert status(KeyConfig(name="a", key="k"), path) == 403
    assert status(KeyConfig(name="a", key="k", admin=True), path) == 200
    assert Authentication(Keyring(["k"])).owner(scope(path, x_api_key="k")) == unnamed(digest_of("k"))


@pytest.mark.parametrize("path", ["/console", "/console/", "/console/app.js"])
def test_the_console_itself_is_open_so_that_it_can_ask_for_a_key(path: str) -> None:
    assert Authentication(Keyring(["one"])).owner(scope(path, "GET")) is UNNAMED


def test_what_the_console_shows_needs_an_admin_whatever_its_routes() -> None:
    assert status(KeyConfig(name="a", key="k", admin=True, routes=("/load",)), "/console/api/models") == 200
    for path in ("/console/api", "/console/api/", "/console/api/models"):
        with pytest.raises(ApiError) as refused:
            Authentication(Keyring(["one"])).owner(scope(path, "GET"))
        assert refused.value.status == 401


def test_a_key_for_some_routes_opens_them_and_what_lies_below() -> None:
    key = KeyConfig(name="a", key="k", routes=("/v1/files", CHAT))
    for path in (CHAT, "/v1/files", "/v1/files/file-1/content", "/v1/models", "/v1/models/m", "/v1/usage"):
        assert status(key, path) == 200, path
    for path in ("/v1/completions", "/v1/filesystem", "/v1", "/load", CHAT + "s"):
        assert status(key, path) == 403, path


@pytest.mark.parametrize("path", ["/health", "/ready", "/ping", "/ping/"])
def test_probes_have_no_key(path: str) -> None:
    assert Authentication(Keyring(["one"])).owner(scope(path)) is UNNAMED
