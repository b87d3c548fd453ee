"""/v1/batches: create, look at, list, cancel.

https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable

import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve_app.batch.api.files import checked_seconds
from serve_app.batch.api.objects import FINAL, Batch, ExpiresAfter
from serve_app.batch.api.owners import Owners, maker
from serve_app.batch.api.responses import known, limit_of, listed, reply
from serve_app.batch.api.store import Store
from serve_app.batch.run.requests import ROUTES, SHOWN
from serve_app.http.errors import ApiError
from serve_app.http.json_bytes import UNREADABLE, explained

MOST_LISTED, USUALLY_LISTED = 100, 20
MOST_BODY_BYTES = 2**20
WINDOW = re.compile(r"([1-9][0-9]{0,3})([mhd])")
SECONDS = {"m": 60, "h": 3600, "d": 86400}
METADATA = (16, 64, 512)
"""OpenAI's bounds: pairs, characters of a key, characters of a value."""


class NewBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a creation."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None = None
    output_expires_after: ExpiresAfter | None = None


_decoder = msgspec.json.Decoder(NewBatch)


class Batches:
    """The routes over one store."""

    def __init__(self, store: Store, changed: Callable[[], None], owners: Owners) -> None:
        """`changed` is called when a batch has been created or is to be cancelled."""
        self._store = store
        self._owners = owners
        self._changed = changed

    def routes(self) -> list[Route]:
        return [
            Route("/v1/batches", self._create, methods=["POST"]),
            Route("/v1/batches", self._list, methods=["GET"]),
            Route("/v1/batches/{id}", self._get, methods=["GET"]),
            Route("/v1/batches/{id}/cancel", self._cancel, methods=["POST"]),
        ]

    async def _create(self, request: Request) -> Response:
        wanted = _read(await _body(request))
        found = await self._store.file(wanted.input_file_id)
        file = known(found if found and self._owners.may_see(request, found) else None, "file", wanted.input_file_id)
        if file.purpose != "batch":
            raise ApiError(
                400, f"{file.id} is for {file.purpose!r}: upload with purpose 'batch'", "input_file_id", "invalid_file"
            )
        now = int(time.time())
        batch = Batch(
            id=f"batch_{uuid.uuid4().hex}",
            endpoint=wanted.endpoint,
            input_file_id=file.id,
            completion_window=wanted.completion_window,
            status="validating",
            created_at=now,
            expires_at=now + _window(wanted.completion_window),
            metadata=wanted.metadata,
            output_expires_after=wanted.output_expires_after,
            key=maker(request),
        )
        await self._store.add_batch(batch)
        self._changed()
        return reply(batch)

    async def _list(self, request: Request) -> Response:
        query = request.query_params
        limit, key = limit_of(query, USUALLY_LISTED, MOST_LISTED), self._owners.seen(request)
        return await listed(self._store.batches(query.get("after"), limit, key))

    async def _get(self, request: Request) -> Response:
        return reply(await self._batch(request))

    async def _cancel(self, request: Request) -> Response:
        batch = await self._store.change((await self._batch(request)).id, cancelling)
        self._changed()
        return reply(batch)

    async def _batch(self, request: Request) -> Batch:
        found = await self._store.batch(id := request.path_params["id"])
        return known(found if found and self._owners.may_see(request, found) else None, "batch", id)


def cancelling(batch: Batch) -> Batch:
    """The batch on its way to being cancelled; ApiError 409 when it has ended."""
    if batch.status in FINAL:
        raise ApiError(409, f"{batch.id} is {batch.status} and cannot be cancelled", code="batch_ended")
    if batch.status in ("cancelling", "finalizing"):
        return batch
    return replace(batch, status="cancelling", cancelling_at=int(time.time()))


async def _body(request: Request) -> bytes:
    """Raises ApiError 413: a batch's requests are in its file."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BODY_BYTES:
            raise ApiError(413, f"the request body is over {MOST_BODY_BYTES // 2**20} MiB", code="body_too_large")
    return body


def _read(body: bytes) -> NewBatch:
    """Raises ApiError 400."""
    try:
        wanted = _decoder.decode(body)
    except msgspec.ValidationError as error:
        found = re.search(r"field `(\w+)`|\$\.([\w.]+)", str(error))
        param = (found[1] or found[2]) if found else None
        raise ApiError(400, f"invalid request body: {error}", param, "invalid_value") from None
    except UNREADABLE as error:
        message = f"the request body is not valid JSON: {explained(error)}"
        raise ApiError(400, message, code="invalid_json") from None
    if wanted.endpoint not in ROUTES:
        message = f"the endpoint is {wanted.endpoint[:SHOWN]!r}: one of {', '.join(ROUTES)}"
        raise ApiError(400, message, "endpoint", "invalid_value")
    if wanted.output_expires_after is not None:
        checked_seconds(wanted.output_expires_after.seconds)
    _check(wanted.metadata or {})
    return wanted


def _check(metadata: dict[str, str]) -> None:
    pairs, key, value = METADATA
    if len(metadata) > pairs or any(len(k) > key or len(v) > value for k, v in metadata.items()):
        message = f"at most {pairs} pairs, keys of {key} and values of {value} characters"
        raise ApiError(400, message, "metadata", "invalid_value")


def _window(text: str) -> int:
    """Seconds; raises ApiError 400."""
    if (found := WINDOW.fullmatch(text)) is None:
        message = f"the completion window is {text[:SHOWN]!r}: write '24h', or another number of m, h or d"
        raise ApiError(400, message, "completion_window", "invalid_value")
    return int(found[1]) * SECONDS[found[2]]
