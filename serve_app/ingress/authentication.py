"""Who may call: API keys."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import Scope

from serve_app.config.api_keys import Keys
from serve_app.http.errors import ApiError
from serve_app.routing.head import header


class Authentication:
    """Lets a request in if it presents one of the configured keys, or if none is configured.

    Raises ValueError for an entry of `ingress.api_keys` that yields no key.
    """

    def __init__(self, api_keys: Iterable[str]) -> None:
        try:
            self._keys = Keys(api_keys)
        except ValueError as error:
            raise ValueError(f"ingress.api_keys: {error}") from None

    def check(self, scope: Scope) -> None:
        """Raise ApiError 401 for a missing or wrong key."""
        if not self._keys:
            return
        scheme, _, presented = header(scope["headers"], b"authorization").partition(" ")
        if scheme.lower() != "bearer":
            presented = header(scope["headers"], b"x-api-key")
        if not self._keys.accept(presented.strip()):
            raise ApiError(401, "missing or wrong API key: send 'Authorization: Bearer KEY'", code="invalid_api_key")
