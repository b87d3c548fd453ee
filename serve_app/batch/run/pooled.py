"""A batch's way to the engines inside the service: a Router in this process, without HTTP in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from starlette.types import Message

from serve_app.accounts.limiter import Limiter
from serve_app.batch.run.client import NoResponse, ServiceResponse
from serve_app.batch.run.pace import ServiceLoad
from serve_app.batch.run.sender import RETRIED
from serve_app.config.keys import UNNAMED, KeyConfig
from serve_app.http.errors import ApiError
from serve_app.routing.body import RequestBody
from serve_app.routing.pool import ReplicaPool
from serve_app.routing.router import Router

HEADERS = [(b"content-type", b"application/json")]


class PoolClient:
    """One batch's client."""

    def __init__(self, router: Router, owner: KeyConfig = UNNAMED, limiter: Limiter | None = None) -> None:
        """`owner` is whose batch it is; `limiter` knows its limits."""
        self._router = router
        self._owner = owner
        self._limiter = limiter or Limiter((), lambda: 1)
        self.requests = 0
        """Under way or waiting for a replica."""
        self._open: Counter[str] = Counter()
        self._pools: dict[str, ReplicaPool] = {}
        self._begun: dict[str | None, dict[str, int]] = {}
        self._failure: str | None = None

    @property
    def open(self) -> Mapping[str, int]:
        """Sequences under way or waiting for a replica, by model id."""
        return self._open

    @property
    def stuck(self) -> str | None:
        """Why nothing is being answered, if nothing is: the last failure since an answer, or engines that are not
        there."""
        without = [model for model, count in self._open.items() if count and not self._pools[model].replicas]
        if self._failure is None and without and len(without) == sum(map(bool, self._open.values())):
            return f"no replica of {' or '.join(map(repr, without))} is ready"
        return self._failure

    async def send(self, url: str, body: bytes) -> ServiceResponse:
        """One request and its whole answer; raises NoResponse."""
        scope = {"type": "http", "method": "POST", "path": url, "headers": HEADERS}
        answer = _Collected()
        try:
            permit = self._limiter.admit(self._owner, len(body))
        except ApiError as error:
            self._failure = error.message
            return ServiceResponse(error.status, error.body, error.retry_after_s)
        try:
            request = await self._router.routed(scope, RequestBody(body), self._owner, batch=True)
            pool, size = request.pool, request.claim.sequences
            self._pools[pool.model] = pool
            self._open[pool.model] += size
            self.requests += 1
            try:
                await self._router.answer(request, answer.send)
            finally:
                self._open[pool.model] -= size
                self.requests -= 1
        except ApiError as error:
            self._failure = error.message if error.status in RETRIED else None
            return ServiceResponse(error.status, error.body, error.retry_after_s)
        except ConnectionError as error:
            self._failure = "a replica failed"
            raise NoResponse(str(error), sent=True) from error
        finally:
            permit.end()
        self._failure = f"the engines answer {answer.status}" if answer.status in RETRIED else None
        return ServiceResponse(answer.status, b"".join(answer.pieces))

    async def load(self, model: str | None) -> ServiceLoad | None:
        """What the replicas of a model last reported, or of all that this batch uses; others, of all that it uses. None
        where there is no such model."""
        everyone = [replica for pool in self._pools.values() for replica in pool.replicas]
        try:
            own = self._router.catalogue.served(model).pool.replicas if model else everyone
        except ApiError:
            return None
        begun = {replica.id: replica.load.interactive_begun for replica in everyone}
        before, self._begun[model] = self._begun.get(model, {}), begun
        new = sum(max(0, count - before.get(id, count)) for id, count in begun.items())
        return ServiceLoad(
            running=sum(replica.load.running for replica in own),
            waiting=sum(replica.load.waiting for replica in own),
            others=new + sum(replica.load.interactive for replica in everyone),
        )


class _Collected:
    """An answer's messages, put together."""

    def __init__(self) -> None:
        self.status = 0
        self.pieces: list[bytes] = []

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.pieces.append(message["body"])
