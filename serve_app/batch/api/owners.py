"""Whose files and batches a request may see: its key's own; all of them for an admin's, or one without a name."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.requests import Request

from serve_app.batch.api.objects import Batch, File
from serve_app.config.keys import KeyConfig
from serve_app.replica.protocol import KEY_HEADER


class Owners:
    """Knows the keys of the service by their names, which the ingress tells with each request."""

    def __init__(self, keys: Iterable[KeyConfig] = ()) -> None:
        self._admins = {key.name for key in keys if key.admin}

    def seen(self, request: Request) -> str | None:
        """The key whose objects alone this request may see; None where it may see all."""
        name = maker(request)
        return None if name in self._admins else name

    def may_see(self, request: Request, item: File | Batch) -> bool:
        return self.seen(request) in (None, item.key)


def maker(request: Request) -> str | None:
    """The name of the request's key, to whom belongs what it makes; None where that has none."""
    return request.headers.get(KEY_HEADER.decode())
