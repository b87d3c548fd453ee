"""The ingress as an ASGI application: requests that name a model go to its replicas, the rest is answered here."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Message, Receive, Scope, Send

from serve_app.accounts.audit import AuditLog
from serve_app.accounts.limiter import Limiter, Permit
from serve_app.config.keys import KeyConfig
from serve_app.http.errors import ApiError
from serve_app.http.model_routes import MODEL_ROUTES
from serve_app.http.pages import starlette_app
from serve_app.ingress.adapters import AdapterPages
from serve_app.ingress.authentication import OWNER, Authentication, owner_of
from serve_app.ingress.batches import BatchApi
from serve_app.ingress.body import BodyReader, TimedReceive
from serve_app.ingress.console import ConsoleRoutes
from serve_app.ingress.docs import Docs
from serve_app.ingress.metrics_pages import MetricsPages
from serve_app.ingress.models import Models
from serve_app.ingress.scaling import Scaling
from serve_app.ingress.status import Status
from serve_app.ingress.unoffered import Unoffered
from serve_app.ingress.usage import UsagePage
from serve_app.replica.protocol import REQUEST_ID
from serve_app.routing.head import ClientGone, header
from serve_app.routing.router import Router

logger = logging.getLogger("ray.serve")


class IngressApp:
    """Everything a client can reach."""

    def __init__(
        self,
        router: Router,
        authentication: Authentication,
        pages: Sequence[
            Models
            | AdapterPages
            | Status
            | MetricsPages
            | Scaling
            | BatchApi
            | UsagePage
            | ConsoleRoutes
            | Docs
            | Unoffered
        ],
        bodies: BodyReader,
        limiter: Limiter,
        audit: AuditLog | None = None,
    ) -> None:
        self._router = router
        self._authentication = authentication
        self._bodies = bodies
        self._limiter = limiter
        self._audit = audit
        self._routes = [route for page in pages for route in page.routes()]
        self._routes += [Route(path, _never_reached, methods=["POST"]) for path in MODEL_ROUTES]
        self._pages = starlette_app(self._routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._pages(scope, receive, send)
            return
        receive = TimedReceive(receive)
        path = scope["path"]
        plain = path.rstrip("/")
        try:
            scope[OWNER] = owner = self._authentication.owner(scope)
            send = self._telling_limits(owner, send)
            if scope["method"] == "POST" and path in MODEL_ROUTES:
                await self._to_model(scope, receive, send)
            elif plain != path and self._is_route({**scope, "path": plain}):
                await _redirect(plain, scope, send)
            else:
                await self._pages(scope, receive, send)
        except ApiError as error:
            await error.answer(path, send)

    def _telling_limits(self, owner: KeyConfig, send: Send) -> Send:
        """With what a key has left of its limits in the head of the answer, as it is then."""
        if not owner.is_limited:
            return send

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._limiter.headers(owner)]
            await send(message)

        return telling

    def _is_route(self, scope: Scope) -> bool:
        return any(route.matches(scope)[0] is not Match.NONE for route in self._routes)

    async def _to_model(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrived = time.time()
        try:
            permit = self._permit(scope)
            try:
                await self._admitted(scope, receive, send)
            finally:
                permit.end()
        except ApiError as refusal:
            if self._audit is not None:
                id, key = header(scope["headers"], REQUEST_ID), owner_of(scope).name
                self._audit.refused(arrived, request_id=id, key=key, route=scope["path"], status=refusal.status)
            raise

    def _permit(self, scope: Scope) -> Permit:
        """Raises ApiError 429."""
        length, owner = header(scope["headers"], b"content-length"), owner_of(scope)
        try:
            return self._limiter.admit(owner, int(length) if length.isdecimal() else 0)
        except ApiError as refusal:
            # Of which model it would have been is not known: nobody has read it.
            self._router.metrics.requests.labels("", scope["path"], str(refusal.status), owner.name).inc()
            raise

    async def _admitted(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def tracked(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            body = await self._bodies.read(scope, receive)
        except ApiError as error:
            # The rest of the body may come or not: nobody reads it.
            error.headers = (*error.headers, (b"connection", b"close"))
            raise
        except ClientGone:
            return
        try:
            request = await self._router.routed(scope, body, owner_of(scope))
            await self._router.answer(request, tracked, receive)
        except ClientGone:
            return
        except (ApiError, ConnectionError):
            raise
        except Exception:
            id = header(scope["headers"], REQUEST_ID)
            logger.exception("the ingress failed on %s, request %s", scope["path"], id)
            if started:
                raise
            raise ApiError(500, "the ingress failed on this request; its log says why") from None
        finally:
            body.release()


async def _redirect(path: str, scope: Scope, send: Send) -> None:
    """To the route without its trailing slashes; 307 keeps method and body."""
    query = scope.get("query_string", b"")
    location = quote(path).encode() + (b"?" + query if query else b"")
    headers = [(b"location", location), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 307, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _never_reached(request: Request) -> Response:
    raise AssertionError("model routes are answered before Starlette sees them")
