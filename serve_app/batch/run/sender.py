"""Requests sent to the service: as many at once as a pace allows, and again after a failure that may pass."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque

from serve_app.batch.run.client import NoResponse, ServiceClient, ServiceResponse
from serve_app.batch.run.pace import Pace
from serve_app.routing import sequences

LOOK_S = 0.5
"""How often the service is asked for its load."""
TRIES = 6
"""Of a request that fails in ways that may pass: 5xx, a broken connection."""
BACKOFF_FIRST_S = 0.5
BACKOFF_MOST_S = 30.0
PATIENCE_S = 600.0
"""A run ends when the service has refused or failed every request for so long."""
FULL, NOT_READY = 429, 503
FORBIDDEN = (401, 403)
TRANSIENT = (408, 409, 425, 500, 502, 504)
RETRIED = (FULL, NOT_READY, *TRANSIENT)
"""HTTP statuses after which a request is sent again."""


class RunStopped(Exception):
    """The run cannot go on now; the text says why. Another run of the job goes on where this one stopped."""


class PacedSender:
    """Sends requests through a client, as many at once as a pace allows. An async context manager.

    The pace counts sequences: a request has several where it asks for several answers, or has several prompts.
    """

    def __init__(self, client: ServiceClient, pace: Pace, model: str | None = None) -> None:
        """`model` names the one that all of the requests are for; None where they are for several."""
        self.open = 0
        """Sequences under way."""
        self.retries = 0
        """Requests sent again."""
        self._client = client
        self._pace = pace
        self._model = model
        self._waiters: deque[tuple[asyncio.Future[None], int]] = deque()
        self._failing_since: float | None = None

    async def __aenter__(self) -> PacedSender:
        self._looking = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._looking.cancel()
        await asyncio.gather(self._looking, return_exceptions=True)

    @property
    def allowed(self) -> int:
        """Sequences that may be open now."""
        return self._pace.allowed(time.monotonic())

    async def ask(self, url: str, body: bytes) -> ServiceResponse | NoResponse:
        """Send a request until there is an outcome to keep: a success, a refusal for good, or the last of TRIES
        failures.

        Raises RunStopped where no request can be answered: the API key is refused, or nothing came back for PATIENCE_S.

        A service that is full, or cannot be reached, costs no try: it has not begun with the request.
        """
        tries, backoff_s = 0, BACKOFF_FIRST_S
        size = sequences.count(body)
        while True:
            outcome = await self._sent(url, body, size)
            if isinstance(outcome, ServiceResponse) and outcome.status not in RETRIED:
                self._failing_since = None
                self._pace.served(time.monotonic(), self.open + size, size)
                if outcome.status in FORBIDDEN:
                    raise RunStopped(f"the service refuses the API key ({outcome.status}): give another with --api-key")
                return outcome
            pause_s = self._failed(outcome)
            tries += outcome.sent if isinstance(outcome, NoResponse) else outcome.status != FULL
            if tries >= TRIES:
                return outcome
            self.retries += 1
            await asyncio.sleep(pause_s + random.uniform(0.5, 1.0) * backoff_s)
            backoff_s = min(BACKOFF_MOST_S, 2 * backoff_s)

    def _failed(self, outcome: ServiceResponse | NoResponse) -> float:
        """Tell the pace of a failure that may pass; for how many seconds the service asks to be left alone.

        Raises RunStopped when nothing but failures came for PATIENCE_S.
        """
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since > PATIENCE_S:
            raise RunStopped(f"for {PATIENCE_S:g} s the service has answered no request: {_told(outcome)}")
        if isinstance(outcome, ServiceResponse) and outcome.status in TRANSIENT:
            return 0.0
        pause_s = outcome.retry_after_s or 0.0 if isinstance(outcome, ServiceResponse) else 0.0
        self._pace.refused(now, pause_s)
        return pause_s

    async def _sent(self, url: str, body: bytes, size: int) -> ServiceResponse | NoResponse:
        """What came of sending a request of `size` sequences once, as soon as the pace allows."""
        while self.open >= self.allowed:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append((waiter, size))
            try:
                await waiter
            except asyncio.CancelledError:
                self._wake()
                raise
        self.open += size
        try:
            return await self._client.send(url, body)
        except NoResponse as reason:
            return reason
        finally:
            self.open -= size
            self._wake()

    def _wake(self) -> None:
        """Wake as many waiting requests as may be open now; each looks again for itself."""
        room = self.allowed - self.open
        while room > 0 and self._waiters:
            waiter, size = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                room -= size

    async def _look(self) -> None:
        """Tell the pace the service's load, every LOOK_S."""
        while True:
            if (load := await self._client.load(self._model)) is not None:
                self._pace.seen(time.monotonic(), load)
            self._wake()
            await asyncio.sleep(self._pace.paused_s(time.monotonic()) or LOOK_S)


def _told(outcome: ServiceResponse | NoResponse) -> str:
    if isinstance(outcome, NoResponse):
        return str(outcome)
    return f"{outcome.status} {outcome.body[:300].decode(errors='replace')}"
