"""GET /v1/usage: what a key has used, by day and model; an admin's key sees all."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from datetime import date, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from serve_app.accounts.usage import EPOCH, DayUse, UsageBook
from serve_app.http.errors import ApiError
from serve_app.ingress.authentication import owner_of
from serve_app.replica.tally import DAY_S

DAYS = 30
"""That are shown unless others are asked for."""

logger = logging.getLogger("ray.serve")


class UsagePage:
    """Reads the accounts; without them says how to have them."""

    def __init__(self, book: UsageBook | None) -> None:
        self._book = book

    def routes(self) -> list[Route]:
        return [Route("/v1/usage", self._page)]

    async def _page(self, request: Request) -> JSONResponse:
        if self._book is None:
            message = "accounts are off: set `ingress.usage: {directory: PATH}` in the service's configuration"
            raise ApiError(404, message, code="usage_off")
        owner = owner_of(request.scope)
        last = _day(request, "to", EPOCH + timedelta(int(time.time() // DAY_S)))
        first = _day(request, "from", last - timedelta(min(DAYS - 1, (last - date.min).days)))
        try:
            found = await asyncio.to_thread(self._book.read, first, last, None if owner.admin else owner.name)
        except sqlite3.Error as error:
            logger.warning("accounts cannot be read: %r", error)
            message = "the accounts cannot be read at present; the service's log says why"
            raise ApiError(503, message, code="usage_failed", retry_after_s=5) from None
        return JSONResponse({"object": "list", "data": [_told(one) for one in found]})


def _day(request: Request, name: str, otherwise: date) -> date:
    if (text := request.query_params.get(name)) is None:
        return otherwise
    try:
        return date.fromisoformat(text)
    except ValueError:
        message = f"{name} is {text[:100]!r}: send a day of UTC such as 2026-11-25"
        raise ApiError(400, message, name, "invalid_value") from None


def _told(one: DayUse) -> dict[str, Any]:
    return {
        "object": "usage",
        "day": one.day.isoformat(),
        "key": one.key or None,
        "model": one.model,
        "requests": one.requests,
        "prompt_tokens": one.prompt,
        "cached_tokens": one.cached,
        "output_tokens": one.output,
    }
