"""Who may call: whose key a request shows, and whether that key opens the route."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import Scope

from serve_app.config.keys import UNNAMED, KeyConfig
from serve_app.http.errors import ApiError
from serve_app.ingress.keyring import Keyring
from serve_app.routing.head import header

OPEN = frozenset({"/health", "/ready", "/ping"})
"""Answered without a key: probes have none."""
ADMIN = frozenset(
    {"/metrics", "/autoscaling", "/docs", "/openapi.json", "/v1/load_lora_adapter", "/v1/unload_lora_adapter"}
)
"""What tells of other clients or of the service's inside, or changes it for all; with what lies below."""
CONSOLE, CONSOLE_API = "/console", "/console/api"
"""The page itself is open, since a browser has to have it to ask for a key; what it shows needs an admin's."""
EVERYONES = ("/v1/models", "/v1/usage")
"""Open to each key, whatever its routes."""
OWNER = "serve_app.owner"
"""Where a request's scope has the key it showed, for the pages."""


class Authentication:
    """Finds a request's owner; everybody is UNNAMED, who may do everything, where no key is configured."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def owner(self, scope: Scope) -> KeyConfig:
        """Raises ApiError 401 for a missing or wrong key, 403 for one that does not open the route."""
        path = scope["path"].rstrip("/")
        # A browser's preflight has no key; without `ingress.cors` it is a method that no route has.
        if not self._keyring or _is_open(path) or scope["method"] == "OPTIONS":
            return UNNAMED
        owner = self.shown(scope)
        if owner is None:
            raise ApiError(401, "missing or wrong API key: send 'Authorization: Bearer KEY'", code="invalid_api_key")
        needs_admin = _below(path, (*ADMIN, CONSOLE_API))
        if needs_admin and not owner.admin:
            raise _denied(f"{path} needs a key with `admin: true`, which {owner.name!r} has not")
        if owner.routes is not None and not _below(path, (*owner.routes, *EVERYONES)) and not needs_admin:
            raise _denied(f"the key {owner.name!r} is not for {path}: it is for {', '.join(owner.routes)}")
        return owner

    def shown(self, scope: Scope) -> KeyConfig | None:
        """Whose key the request shows, whatever its route; None where it is nobody's."""
        if not self._keyring:
            return UNNAMED
        scheme, _, presented = header(scope["headers"], b"authorization").partition(" ")
        if scheme.lower() != "bearer":
            presented = header(scope["headers"], b"x-api-key")
        return self._keyring.owner(presented.strip())


def owner_of(scope: Scope) -> KeyConfig:
    """Whom `Authentication` has found."""
    found: KeyConfig = scope[OWNER]
    return found


def _is_open(path: str) -> bool:
    return path in OPEN or (_below(path, (CONSOLE,)) and not _below(path, (CONSOLE_API,)))


def _below(path: str, tops: Iterable[str]) -> bool:
    return any(path == top or path.startswith(top + "/") for top in tops)


def _denied(message: str) -> ApiError:
    return ApiError(403, message, code="permission_denied")
