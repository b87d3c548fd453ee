"""What the routes of /v1/files and /v1/batches share: objects as responses, lists in pages, 404."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

import msgspec
from starlette.responses import Response

from serve_app.batch.api.database import Page
from serve_app.batch.api.objects import Batch, File
from serve_app.batch.run.requests import SHOWN
from serve_app.http.errors import ApiError

Item = TypeVar("Item", File, Batch)
_NUMBER = re.compile(r"[0-9]{1,18}")


def reply(content: Any) -> Response:
    """Answer with an object of the API."""
    return Response(msgspec.json.encode(content), media_type="application/json")


async def listed(page: Awaitable[Page[Item]]) -> Response:
    """OpenAI's list; raises ApiError 400 when it was to follow an object that is not there."""
    try:
        found = await page
    except KeyError as error:
        raise ApiError(400, f"there is no {error.args[0][:SHOWN]!r} to list after", "after", "invalid_value") from None
    ids: list[str | None] = [item.id for item in found.data]
    first, last = (ids[0], ids[-1]) if ids else (None, None)
    return reply({"object": "list", "data": found.data, "first_id": first, "last_id": last, "has_more": found.has_more})


def limit_of(query: Mapping[str, str], usual: int, most: int) -> int:
    """How many objects a list was asked for; raises ApiError 400."""
    given = query.get("limit", str(usual))
    limit = whole_number(given)
    if limit is None or not 1 <= limit <= most:
        raise ApiError(400, f"limit is {given[:SHOWN]!r}: should be 1 to {most}", "limit", "invalid_value")
    return limit


def whole_number(text: str) -> int | None:
    """Of ASCII digits, at most 18 of them; None for anything else."""
    return int(text) if _NUMBER.fullmatch(text) else None


def known(item: Item | None, what: str, id: str) -> Item:
    """The object, or ApiError 404."""
    if item is None:
        raise ApiError(404, f"there is no {what} {id[:SHOWN]!r}", f"{what}_id", f"{what}_not_found")
    return item
