"""The Batch API as one ASGI application, which answers 503 with the reason while it cannot use its directory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.batch.api.batches import Batches
from serve_app.batch.api.disk import DirectoryTaken, DirectoryUnusable, StoreFull
from serve_app.batch.api.files import Files
from serve_app.batch.api.owners import Owners
from serve_app.batch.api.store import DATABASE, Store
from serve_app.config import schema
from serve_app.http.errors import ApiError
from serve_app.http.pages import starlette_app

RETRY_S = 5
TAKEN_AGAIN_S = 1.0
UNUSABLE_AGAIN_S = 5.0
"""How often a directory that another service has, and one that cannot be used, are tried again."""

logger = logging.getLogger("ray.serve")


def routes_over(
    store: Store, changed: Callable[[], None], max_file_bytes: int, owners: Owners, more: Sequence[Route] = ()
) -> Starlette:
    """/v1/files and /v1/batches over a store, and `more`. `changed` is called when there is something to work on."""
    files, batches = Files(store, max_file_bytes, owners), Batches(store, changed, owners)
    app = starlette_app([*files.routes(), *batches.routes(), *more])
    app.add_exception_handler(StoreFull, _refused)
    app.add_exception_handler(DirectoryUnusable, _refused)
    return app


class BatchApplication:
    """Takes the batch directory whenever it can be had, and works on it while it can be used.

    Otherwise nothing in the directory is touched, and each request is told why.
    """

    def __init__(self, settings: schema.BatchConfig, work: Callable[[Store], Awaitable[None]]) -> None:
        """`work` sets `app`, and goes on until it is cancelled or raises DirectoryUnusable."""
        self.app: ASGIApp | None = None
        """What answers requests while the directory can be used."""
        self._settings = settings
        self._work = work
        self._without = starlette_app([])
        self._why_not = "the batch deployment is starting"
        self._store: Store | None = None
        self._pause_s = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI has it."""
        if self.app is None and scope["type"] == "http":
            error = ApiError(503, self._why_not, code="batch_api_not_ready", retry_after_s=RETRY_S)
            await error.answer(scope["path"], send)
        else:
            await (self.app or self._without)(scope, receive, send)

    async def open(self) -> None:
        """Try to take the directory."""
        before = self._why_not
        least_free = int(self._settings.min_free_mib * 2**20)
        try:
            directory = Path(self._settings.directory).expanduser()
            self._store = await asyncio.to_thread(Store.open, directory, least_free)
            return
        except DirectoryTaken as error:
            reason, self._pause_s = str(error), TAKEN_AGAIN_S
            self._why_not = "another service has the Batch API's directory; this one takes over when that is gone"
        except DirectoryUnusable as error:
            reason, self._pause_s = str(error), UNUSABLE_AGAIN_S
            self._why_not = _told(error)
        except StoreFull as error:
            reason, self._pause_s = str(error), UNUSABLE_AGAIN_S
            self._why_not = "the disk of the Batch API is full: make room"
        if self._why_not != before:
            logger.error("the Batch API answers 503, and the rest of the service goes on: %s", reason)

    async def run(self) -> None:
        """Never returns."""
        while True:
            while self._store is None:
                before = self._database()
                await asyncio.sleep(self._pause_s)
                if self._database() == before:
                    await self.open()
            try:
                await self._work(self._store)
            except DirectoryUnusable as error:
                logger.error("the Batch API stops: %s", error)
                self.app, self._why_not = None, _told(error)
                self._pause_s = UNUSABLE_AGAIN_S
            await self.close()

    async def close(self) -> None:
        """Let the directory go."""
        store, self._store = self._store, None
        if store is not None:
            await store.close()

    def _database(self) -> tuple[int, int] | None:
        """Changes while somebody copies another one over it, which is no moment to open it."""
        try:
            found = (Path(self._settings.directory).expanduser() / DATABASE).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size


def _told(reason: DirectoryUnusable) -> str:
    """What clients are told of it."""
    return f"the Batch API cannot use its directory: {reason.reason}"


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, DirectoryUnusable):
        refusal = ApiError(503, _told(error), code="batch_storage_failed", retry_after_s=RETRY_S)
    else:
        refusal = ApiError(507, "the disk of the Batch API is full: delete files", code="disk_full")
    return refusal.response(request.scope["path"])
