"""/v1/files: upload, list, look at, read, delete.

https://platform.openai.com/docs/api-reference/files
"""

from __future__ import annotations

import time
import uuid
from typing import Literal

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from serve_app.batch.api.objects import File
from serve_app.batch.api.owners import Owners, maker
from serve_app.batch.api.responses import known, limit_of, listed, reply, whole_number
from serve_app.batch.api.store import Store
from serve_app.batch.api.upload import receive
from serve_app.batch.run.requests import SHOWN
from serve_app.http.errors import ApiError

PURPOSE = "batch"
"""The only one there is a use for here."""
MOST_LISTED = 10_000
LONGEST_NAME = 255
EXPIRY_SECONDS = (3600, 30 * 24 * 3600)
"""OpenAI's bounds for `expires_after`."""


class Files:
    """The routes over one store."""

    def __init__(self, store: Store, max_bytes: int, owners: Owners) -> None:
        self._store = store
        self._owners = owners
        self._max_bytes = max_bytes

    def routes(self) -> list[Route]:
        return [
            Route("/v1/files", self._create, methods=["POST"]),
            Route("/v1/files", self._list, methods=["GET"]),
            Route("/v1/files/{id}", self._get, methods=["GET"]),
            Route("/v1/files/{id}", self._delete, methods=["DELETE"]),
            Route("/v1/files/{id}/content", self._content, methods=["GET"]),
        ]

    async def _create(self, request: Request) -> Response:
        contents = self._store.incoming()
        kind = request.headers.get("content-type", "")
        form = await receive(kind, request.stream(), contents, self._max_bytes, self._store.room)
        try:
            file = replace(_described(form.fields, form.filename or "", form.size), key=maker(request))
            await self._store.add_file(contents, file)
        finally:
            contents.unlink(missing_ok=True)
        return reply(file)

    async def _list(self, request: Request) -> Response:
        query = request.query_params
        order: Literal["asc", "desc"] = "asc" if query.get("order") == "asc" else "desc"
        limit = limit_of(query, MOST_LISTED, MOST_LISTED)
        key = self._owners.seen(request)
        return await listed(self._store.files(query.get("after"), limit, order, query.get("purpose"), key))

    async def _get(self, request: Request) -> Response:
        return reply(await self._file(request))

    async def _content(self, request: Request) -> Response:
        file = await self._file(request)
        contents = self._store.path(file.id)
        if not contents.is_file():
            message = f"the contents of {file.id} are gone from the service's disk: delete it"
            raise ApiError(404, message, "file_id", "file_contents_missing")
        return FileResponse(contents, media_type="application/octet-stream", filename=file.filename)

    async def _delete(self, request: Request) -> Response:
        file = await self._file(request)
        for batch in await self._store.unfinished():
            if batch.input_file_id == file.id:
                raise ApiError(409, f"{batch.id} is reading {file.id}: cancel it first", "file_id", "file_in_use")
        await self._store.delete_file(file.id)
        return reply({"id": file.id, "object": "file", "deleted": True})

    async def _file(self, request: Request) -> File:
        found = await self._store.file(id := request.path_params["id"])
        return known(found if found and self._owners.may_see(request, found) else None, "file", id)


def _described(fields: dict[str, str], filename: str, size: int) -> File:
    """The file a form describes; raises ApiError 400."""
    allowed = {"purpose", "expires_after[anchor]", "expires_after[seconds]"}
    if unknown := sorted(fields.keys() - allowed):
        name = unknown[0][:SHOWN]
        raise ApiError(400, f"unknown field {name!r} in the form", name, "unknown_parameter")
    purpose = fields.get("purpose", "")
    if purpose != PURPOSE:
        message = f"the purpose is {purpose[:SHOWN]!r}: this service keeps files for {PURPOSE!r} alone"
        raise ApiError(400, message, "purpose", "invalid_value")
    if len(filename) > LONGEST_NAME:
        raise ApiError(400, f"the file's name is over {LONGEST_NAME} characters", "file", "invalid_value")
    if not size:
        raise ApiError(400, "the file is empty", "file", "empty_file")
    now = int(time.time())
    expires_at = now + _seconds(fields) if fields.keys() & (allowed - {"purpose"}) else None
    return File(
        id=f"file-{uuid.uuid4().hex}",
        bytes=size,
        created_at=now,
        filename=filename,
        purpose=purpose,
        expires_at=expires_at,
    )


def _seconds(fields: dict[str, str]) -> int:
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]", "")
    if anchor != "created_at":
        raise ApiError(400, "the anchor must be 'created_at'", "expires_after[anchor]", "invalid_value")
    if (number := whole_number(seconds)) is None:
        raise ApiError(400, "a whole number of seconds is needed", "expires_after[seconds]", "invalid_value")
    return checked_seconds(number)


def checked_seconds(seconds: int) -> int:
    """How long a file is kept; raises ApiError 400 beyond OpenAI's bounds."""
    least, most = EXPIRY_SECONDS
    if not least <= seconds <= most:
        raise ApiError(400, f"{seconds} seconds: should be {least} to {most}", "expires_after", "invalid_value")
    return seconds
