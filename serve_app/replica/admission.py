"""Admission control: what a replica lets in, refuses, and counts.

Only requests with the replica's token are let in, and only as many sequences as the replica can hold. A refusal carries
the header `x-replica-refused`: it tells the router that the client has seen nothing and that the request may go to
another replica.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from urllib.parse import parse_qsl

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.http.errors import ApiError
from serve_app.http.model_routes import MODEL_ROUTES
from serve_app.replica.exposition import CONTENT_TYPE, own, part
from serve_app.replica.ledger import Account, Ledger
from serve_app.replica.protocol import (
    ANSWER_ID_HEADER,
    BATCH_HEADER,
    CROWDED,
    DEAD,
    DIED,
    DRAINING,
    FULL,
    KEY_HEADER,
    LIGHT_HEADER,
    OUTPUT_LIMIT_HEADER,
    PLACES_HEADER,
    PROMPT_LIMIT_HEADER,
    REFUSED_HEADER,
    REQUEST_ID,
    SEQUENCES_HEADER,
    TOKEN_HEADER,
    USED_HEADER,
    WAITED_HEADER,
)
from serve_app.replica.sleep import SLEEP, WAKE, SleepControl

METRICS, METRICS_PART = "/metrics", "/metrics/part"
"""The application's page with what the replica counts itself: what it has made for each key, of which an engine's own
metrics know nothing, and what its adapters are asked for. And the replica's part of the page of all, its samples
labelled as the query says: `?replica=ID`."""


class AdmissionControl:
    """ASGI middleware around a replica's application.

    A request that is not a POST needs the token and nothing else: pages such as /metrics take no capacity.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str,
        capacity: int,
        failure: Callable[[], str | None],
        sleep: SleepControl | None = None,
        ledger: Ledger | None = None,
        counts: Sequence[Collector] = (),
        pages: Mapping[str, ASGIApp] = MappingProxyType({}),
    ) -> None:
        """`capacity` is in sequences, running and queued; `failure` says why the engine is dead, or None; `sleep` is of
        a replica that can, `ledger` of one that accounts for what it makes, `counts` are further metrics,
        `pages` the replica's own, by path."""
        self._sleep = sleep
        self._ledger = ledger or Ledger("")
        self._pages = {METRICS: self._metrics, METRICS_PART: self._metrics, **pages}
        self._counts = counts
        self._app = app
        self._token = token.encode()
        self._capacity = capacity
        self.failure = failure
        self._idle = asyncio.Event()
        """Set while no sequence is open."""
        self._idle.set()
        self._fits = asyncio.Event()
        """Set while the engine holds all that was let in."""
        self._fits.set()
        self.in_flight = 0
        """Sequences that were let in, and have not ended."""
        self.interactive = 0
        """Sequences in flight that are not batch work."""
        self.interactive_begun = 0
        """Sequences that are not batch work, let in so far."""
        self.accepted = 0
        """Sequences for the engine so far."""
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if not self._knows_token(scope):
            await ApiError(401, "this server answers only its application's ingress").answer("", send)
            return
        if scope["method"] != "POST":
            await self._pages.get(scope["path"], self._app)(scope, receive, send)
            return
        if self._sleep is not None and scope["path"] in (SLEEP, WAKE):
            await self._rest_or_wake(self._sleep, scope["path"], send)
            return
        if reason := self._refusal(scope):
            await _refuse(send, reason)
            return
        sequences = self._sequences(scope)
        interactive = 0 if any(name == BATCH_HEADER for name, _ in scope["headers"]) else sequences
        self.in_flight += sequences
        self.interactive += interactive
        self.interactive_begun += interactive
        self.accepted += 0 if MODEL_ROUTES.get(scope["path"]) == "prepare" else sequences
        self._idle.clear()
        came = time.perf_counter()
        try:
            if self._sleep is not None and not self._sleep.awake and not await _woken(self._sleep, send):
                return
            if self.in_flight > self._capacity:
                self._fits.clear()
                receive = await _wait_until_set(self._fits, receive)
            with self._ledger.account(account := _account(scope, time.perf_counter() - came)):
                await self._app(scope, receive, _Answer(send, self.failure, account))
        except _ClientLeft:
            return
        finally:
            self.in_flight -= sequences
            self.interactive -= interactive
            if self.in_flight <= self._capacity:
                self._fits.set()
            if not self.in_flight:
                self._idle.set()
            if self._sleep is not None:
                self._sleep.ended(self.in_flight)

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        registry = CollectorRegistry()
        for one in (self._ledger, *self._counts):
            registry.register(one)
        plain = {**scope, "path": METRICS, "raw_path": METRICS.encode(), "query_string": b"", "headers": []}
        page = await _page(self._app, plain, receive) + own(registry)
        if scope["path"] == METRICS_PART:
            ((label, process), *_) = parse_qsl(scope["query_string"].decode()) or [("replica", "")]
            page = part(page, label, process)
        await PlainTextResponse(page, media_type=CONTENT_TYPE)(scope, receive, send)

    async def _rest_or_wake(self, sleep: SleepControl, path: str, send: Send) -> None:
        if path == SLEEP:
            sleep.rest(self.in_flight)
        elif not await _woken(sleep, send):
            return
        await JSONResponse({"resting": sleep.resting})({"type": "http"}, _nothing, send)

    async def drain(self, timeout_s: float) -> bool:
        """Refuse new requests and wait for the open ones; False if some were still open in the end."""
        self.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        return not self.in_flight

    def _knows_token(self, scope: Scope) -> bool:
        return any(k == TOKEN_HEADER and hmac.compare_digest(v, self._token) for k, v in scope["headers"])

    def _sequences(self, scope: Scope) -> int:
        """Of the request; one of more than the capacity counts as the whole capacity."""
        said = next((value for name, value in scope["headers"] if name == SEQUENCES_HEADER), b"1")
        return min(int(said), self._capacity)

    def _refusal(self, scope: Scope) -> str | None:
        """Why no request is let in at present; None while one is.

        While there is any room a request is let in, even if it then has to wait until all of it fits. Refused for as
        long as others take the room that comes, a request of many sequences would never get in.
        """
        if self.failure() is not None:
            return DEAD
        if self.draining:
            return DRAINING
        if self.in_flight >= self._capacity:
            return FULL
        places = next((int(value) for name, value in scope["headers"] if name == PLACES_HEADER), None)
        return CROWDED if places is not None and self.in_flight >= places else None


def _account(scope: Scope, admission_s: float) -> Account:
    headers = dict(scope["headers"])
    prompt, output = headers.get(PROMPT_LIMIT_HEADER), headers.get(OUTPUT_LIMIT_HEADER)
    return Account(
        key=headers.get(KEY_HEADER, b"").decode(),
        id=headers.get(ANSWER_ID_HEADER, headers.get(REQUEST_ID, b"")).decode("latin-1"),
        route=scope["path"],
        waited_s=float(headers.get(WAITED_HEADER, b"0")),
        admission_s=admission_s,
        batch=BATCH_HEADER in headers,
        light=LIGHT_HEADER in headers,
        most_prompt=None if prompt is None else int(prompt),
        most_output=None if output is None else int(output),
    )


async def _page(app: ASGIApp, scope: Scope, receive: Receive) -> str:
    """What the application answers; empty where that is an error."""
    status, body = 0, bytearray()

    async def take(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)
        body.extend(message.get("body", b""))

    await app(scope, receive, take)
    return body.decode() if status == 200 else ""


async def _woken(sleep: SleepControl, send: Send) -> bool:
    """Wake the engine; False where it does not wake, which the router is told."""
    try:
        await sleep.wake()
    except RuntimeError:
        await _refuse(send, DEAD)
        return False
    return True


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


class _ClientLeft(Exception):
    """The client left while its request waited for room."""


async def _wait_until_set(event: asyncio.Event, receive: Receive) -> Receive:
    """Wait for the event, and notice a client that leaves meanwhile.

    Returns what the application receives the request from: it begins with the messages that came during the wait.
    Raises _ClientLeft.
    """
    received: deque[Message] = deque()
    waiting = asyncio.ensure_future(event.wait())
    try:
        while not waiting.done():
            message = asyncio.ensure_future(receive())
            await asyncio.wait((waiting, message), return_when=asyncio.FIRST_COMPLETED)
            if not message.done():
                message.cancel()
            elif message.result()["type"] == "http.disconnect":
                raise _ClientLeft
            else:
                received.append(message.result())
    finally:
        waiting.cancel()

    async def replay() -> Message:
        return received.popleft() if received else await receive()

    return replay


class _Answer:
    """Notes how a request is answered, and tells the router what a whole answer took. Turns the engine's 5xx into a
    refusal when the engine has died, so that the request can go elsewhere."""

    def __init__(self, send: Send, failure: Callable[[], str | None], account: Account) -> None:
        self._send = send
        self._failure = failure
        self._account = account
        self._replaced = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._account.status = message["status"]
            if message["status"] >= 500 and self._failure() is not None:
                self._replaced = True
                await _refuse(self._send, DIED)
                return
            message = self._with_use(message)
        elif not self._account.first_byte_at:
            self._account.first_byte_at = time.perf_counter()
        if not self._replaced:
            await self._send(message)

    def _with_use(self, message: Message) -> Message:
        headers = message.get("headers", ())
        if any(value.startswith(b"text/event-stream") for name, value in headers if name.lower() == b"content-type"):
            # What it takes is known when it ends (`replica.said`).
            return message
        used = (USED_HEADER, b"%d" % self._account.used().processed)
        return {**message, "headers": [*headers, used]}


async def _refuse(send: Send, reason: str) -> None:
    error = ApiError(503, f"this replica is {reason}", code=f"replica_{reason}", retry_after_s=1)
    await error.answer("", send, (REFUSED_HEADER, reason.encode()))
