"""Who may call: API keys."""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable

from starlette.types import Scope

from serve_app.errors import ApiError
from serve_app.ingress.request import header


class Guard:
    """Lets a request in if it presents one of the configured keys, or if none is configured."""

    def __init__(self, api_keys: Iterable[str]) -> None:
        self._keys = [key.encode() for entry in api_keys for key in _expand(entry)]

    def check(self, scope: Scope) -> None:
        """Raise ApiError 401 for a missing or wrong key."""
        if not self._keys:
            return
        scheme, _, presented = header(scope["headers"], b"authorization").partition(" ")
        if scheme.lower() != "bearer":
            presented = header(scope["headers"], b"x-api-key")
        given = presented.strip().encode()
        matches = [hmac.compare_digest(given, key) for key in self._keys]
        if not any(matches):
            raise ApiError(401, "missing or wrong API key: send 'Authorization: Bearer KEY'", code="invalid_api_key")


def _expand(entry: str) -> list[str]:
    """`env:NAME` as the keys that variable holds; anything else as one key."""
    scheme, _, name = entry.partition(":")
    if scheme != "env":
        return [entry]
    keys = [key.strip() for key in os.environ.get(name, "").split(",") if key.strip()]
    if not keys:
        raise ValueError(f"ingress.api_keys: the environment variable {name} is empty or not set")
    return keys
