"""The Batch API as one application, and what stands in its place while it cannot answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.batch.api.batches import Batches
from serve_app.batch.api.files import Files
from serve_app.batch.api.store import Store
from serve_app.batch.api.trouble import Full, Unusable
from serve_app.http.errors import ApiError
from serve_app.http.pages import answering

RETRY_S = 5


def application(
    store: Store, changed: Callable[[], None], max_file_bytes: int, more: Sequence[Route] = ()
) -> Starlette:
    """/v1/files and /v1/batches over a store, and `more`. `changed` is called when there is something to work on."""
    app = answering([*Files(store, max_file_bytes).routes(), *Batches(store, changed).routes(), *more])
    app.add_exception_handler(Full, _refused)
    app.add_exception_handler(Unusable, _refused)
    return app


class Gate:
    """Lets requests through to the application once there is one."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None
        self.why_not = "the batch deployment is starting"
        self._without = answering([])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.app is None and scope["type"] == "http":
            error = ApiError(503, self.why_not, code="batch_api_not_ready", retry_after_s=RETRY_S)
            await error.answer(scope["path"], send)
        else:
            await (self.app or self._without)(scope, receive, send)


def told(reason: Unusable) -> str:
    """What clients are told of it."""
    return f"the Batch API cannot use its directory: {reason.reason}"


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, Unusable):
        refusal = ApiError(503, told(error), code="batch_storage_failed", retry_after_s=RETRY_S)
    else:
        refusal = ApiError(507, "the disk of the Batch API is full: delete files", code="disk_full")
    return refusal.response(request.scope["path"])
