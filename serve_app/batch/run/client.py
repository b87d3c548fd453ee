"""How a batch reaches the service: what a client can do, and the one for a service that runs elsewhere."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Protocol

import aiohttp
import msgspec

from serve_app.batch.run.pace import ServiceLoad
from serve_app.http.json_bytes import UNREADABLE

CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 3600.0
LONGEST_PAUSE_S = 3600.0
"""A longer Retry-After counts as this."""


@dataclass(frozen=True, slots=True)
class ServiceResponse:
    """The whole HTTP response to one request."""

    status: int
    body: bytes
    retry_after_s: float | None = None


class NoResponse(Exception):
    """The connection was not made, or broke before the answer was complete."""

    def __init__(self, reason: str, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent
        """The service may have begun with the request."""


class ServiceClient(Protocol):
    """A way to the service."""

    async def send(self, url: str, body: bytes) -> ServiceResponse:
        """POST a JSON body to a route (`/v1/...`). Raises NoResponse."""
        ...

    async def load(self, model: str | None) -> ServiceLoad | None:
        """What the service has open of a model now, or of all its models; None where it does not tell.

        Its `others` count requests for any model, for models may share a machine.
        """
        ...


class ModelLoad(msgspec.Struct):
    """What /load says of a model: sums over what its replicas last reported."""

    running: int
    waiting: int
    interactive: int
    interactive_begun: int


class _ListedModel(msgspec.Struct):
    id: str


class _ModelList(msgspec.Struct):
    data: list[_ListedModel]


class HttpClient:
    """A running service over HTTP. An async context manager."""

    def __init__(self, base_url: str, api_key: str | None = None) -> None:
        """`base_url` may end in /v1, as it does for OpenAI's client."""
        self._root = base_url.rstrip("/").removesuffix("/v1")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._begun: dict[str | None, int] = {}

    async def __aenter__(self) -> HttpClient:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def models(self) -> frozenset[str]:
        """The names that are served. Raises NoResponse."""
        status, body = await self._get("/v1/models")
        if status != 200:
            raise NoResponse(
                f"{self._root}/v1/models answers {status}: {body.decode(errors='replace')[:300]}", sent=True
            )
        try:
            return frozenset(model.id for model in msgspec.json.decode(body, type=_ModelList).data)
        except UNREADABLE:
            raise NoResponse(f"{self._root}/v1/models answers no list of models: is it a service?", sent=True) from None

    async def send(self, url: str, body: bytes) -> ServiceResponse:
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(self._root + url, data=body, headers=headers) as response:
                return ServiceResponse(
                    response.status, await response.read(), _seconds(response.headers.get("Retry-After"))
                )
        except aiohttp.ClientConnectorError as error:
            raise NoResponse(str(error), sent=False) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NoResponse(str(error) or type(error).__name__, sent=True) from error

    async def load(self, model: str | None) -> ServiceLoad | None:
        """What this project's service says at /load; None from another's. All models where it does not know the name,
        which may be an alias."""
        with contextlib.suppress(NoResponse, *UNREADABLE):
            status, body = await self._get("/load")
            if status == 200:
                loads = msgspec.json.decode(body, type=dict[str, ModelLoad])
                everyone = loads.values()
                own = [loads[model]] if model in loads else everyone
                begun = sum(load.interactive_begun for load in everyone)
                before, self._begun[model] = self._begun.get(model, begun), begun
                return ServiceLoad(
                    running=sum(load.running for load in own),
                    waiting=sum(load.waiting for load in own),
                    others=sum(load.interactive for load in everyone) + max(0, begun - before),
                )
        return None

    async def _get(self, path: str) -> tuple[int, bytes]:
        try:
            timeout = aiohttp.ClientTimeout(total=CONNECT_TIMEOUT_S)
            async with self._session.get(self._root + path, timeout=timeout) as page:
                return page.status, await page.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NoResponse(f"{self._root}{path}: {error or type(error).__name__}", sent=False) from error


def _seconds(retry_after: str | None) -> float | None:
    """Of a Retry-After header; its other form, a date, is not used by inference servers."""
    try:
        seconds = float(retry_after or "nan")
    except ValueError:
        return None
    return None if math.isnan(seconds) else min(max(0.0, seconds), LONGEST_PAUSE_S)
