"""API keys."""

from __future__ import annotations

import pytest

from serve_app.http.errors import ApiError
from serve_app.ingress.authentication import Authentication


def scope(**headers: str) -> dict:
    return {"headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]}


def test_open_without_keys() -> None:
    Authentication([]).check(scope())


def test_a_key_opens_as_bearer_or_x_api_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "two, three")
    authentication = Authentication(["one", "env:KEYS"])
    authentication.check(scope(authorization="Bearer one"))
    authentication.check(scope(authorization="bearer three"))
    authentication.check(scope(x_api_key="two"))


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer no"}, {"authorization": "one"}, {"x_api_key": ""}])
def test_anything_else_is_401(headers: dict[str, str]) -> None:
    with pytest.raises(ApiError) as refused:
        Authentication(["one"]).check(scope(**headers))
    assert refused.value.status == 401


@pytest.mark.parametrize("empty", [None, "", " , "])
def test_an_empty_variable_is_an_error_at_start(monkeypatch: pytest.MonkeyPatch, empty: str | None) -> None:
    monkeypatch.delenv("KEYS", raising=False)
    if empty is not None:
        monkeypatch.setenv("KEYS", empty)
    with pytest.raises(ValueError, match=r"ingress\.api_keys: the environment variable KEYS is empty"):
        Authentication(["one", "env:KEYS"])
