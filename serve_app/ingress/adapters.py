"""POST /v1/load_lora_adapter and /v1/unload_lora_adapter, as vLLM has them, for all replicas and for good.

https://docs.vllm.ai/en/latest/features/lora.html. What is loaded lies in the adapters' directory of a model; nothing is
uploaded. A replica tries an adapter before it is offered, and the others have it with the first request that is for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import aiohttp
import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from serve_app.adapters.adapter import Adapter
from serve_app.adapters.directory import AdapterDirectory
from serve_app.config.names import model_id
from serve_app.http.errors import ApiError
from serve_app.http.json_bytes import UNREADABLE, explained
from serve_app.replica.protocol import ADAPTER_HEADER, TOKEN_HEADER
from serve_app.routing.adapters import AdapterWatch
from serve_app.routing.catalogue import Catalogue, Served
from serve_app.routing.replica import Replica

MOST_BODY_BYTES = 2**16
TRY_TIMEOUT = aiohttp.ClientTimeout(total=120.0)
"""For a replica to load an adapter, while others may have to leave first."""

Asked = TypeVar("Asked")

logger = logging.getLogger("ray.serve")


class _LoadAsked(msgspec.Struct):
    """vLLM's LoadLoRAAdapterRequest, and the model it is for."""

    lora_name: str
    lora_path: str
    load_inplace: bool = False
    base_model_name: str | None = None


class _UnloadAsked(msgspec.Struct):
    """vLLM's UnloadLoRAAdapterRequest."""

    lora_name: str


class _AskedPlace(NamedTuple):
    """An adapter that is to be loaded, and the model it is for."""

    served: Served
    directory: AdapterDirectory
    folder: Path
    adapter: Adapter


class AdapterPages:
    """Changes what the directories say; without one says how to have one."""

    def __init__(self, catalogue: Catalogue, watch: AdapterWatch, session: aiohttp.ClientSession) -> None:
        self._catalogue = catalogue
        self._watch = watch
        self._session = session

    def routes(self) -> list[Route]:
        changes = {"/v1/load_lora_adapter": self._load, "/v1/unload_lora_adapter": self._unload}
        return [Route(path, change, methods=["POST"]) for path, change in changes.items()]

    async def _load(self, request: Request) -> PlainTextResponse:
        asked = await _read(request, _LoadAsked)
        self._check_name(asked)
        place = await asyncio.to_thread(self._place, asked)
        await self._try(place.served, place.adapter)
        await _written(place.directory.load, asked.lora_name, place.folder)
        await self._watch.look()
        return PlainTextResponse(f"Success: LoRA adapter '{asked.lora_name}' added successfully.")

    async def _unload(self, request: Request) -> PlainTextResponse:
        asked = await _read(request, _UnloadAsked)
        found = self._catalogue.find(asked.lora_name)
        if found.adapter is None:
            raise ApiError(400, f"{asked.lora_name!r} is a model, and no adapter of one", "lora_name", "invalid_value")
        directory = self._watch.directory(found.served)
        assert directory is not None
        if directory.lists(asked.lora_name):
            raise _listed(asked.lora_name)
        await _written(directory.unload, asked.lora_name)
        await self._watch.look()
        return PlainTextResponse(f"Success: LoRA adapter '{asked.lora_name}' removed successfully.")

    def _check_name(self, asked: _LoadAsked) -> None:
        """Raises ApiError 400 for a name that cannot be, or that is taken."""
        name = asked.lora_name
        try:
            model_id(name)
        except ValueError as error:
            raise ApiError(400, f"lora_name {error}", "lora_name", "invalid_value") from None
        there = self._catalogue.known(name)
        if there is None:
            return
        if there.adapter is None:
            raise ApiError(400, f"{name!r} is the name of a model that is served", "lora_name", "name_taken")
        directory = self._watch.directory(there.served)
        if directory is not None and directory.lists(name):
            raise _listed(name)
        if not asked.load_inplace and there.wrong is None:
            message = f"the adapter {name!r} is loaded already: send `load_inplace: true` to load it from elsewhere"
            raise ApiError(400, message, "lora_name", "name_taken")

    def _place(self, asked: _LoadAsked) -> _AskedPlace:
        """The model that the adapter is for, and where it is. Raises ApiError 400. Blocks."""
        models = [one for one in self._catalogue.models if asked.base_model_name in (None, *one.config.names)]
        found = [(one, directory) for one in models if (directory := self._watch.directory(one)) and directory.root]
        if not found:
            of = "no model" if asked.base_model_name is None else f"no model {asked.base_model_name!r}"
            message = f"{of} has adapters that may be loaded: set `adapters: {{directory: PATH}}` in a model's entry"
            raise ApiError(400, message, code="adapters_off")
        places = [
            _AskedPlace(served, directory, folder, directory.as_found(asked.lora_name, folder))
            for served, directory in found
            if (folder := directory.below(asked.lora_path)) is not None
        ]
        if not places:
            roots = ", ".join(sorted({str(directory.root) for _, directory in found}))
            message = f"lora_path {asked.lora_path!r} does not lie in {roots}, where adapters are loaded from"
            raise ApiError(400, message, "lora_path", "path_not_allowed")
        fitting = next((one for one in places if one.adapter.wrong is None), places[0])
        if fitting.adapter.wrong is not None:
            raise _unusable(asked.lora_name, fitting.adapter.wrong)
        return fitting

    async def _try(self, served: Served, adapter: Adapter) -> None:
        """Have one replica load it, if there is any. Raises ApiError 400 where it cannot."""
        for replica in sorted(served.pool.replicas, key=lambda one: (one.load.draining, one.occupied)):
            if await self._loads(replica, adapter):
                return

    async def _loads(self, replica: Replica, adapter: Adapter) -> bool:
        headers = {TOKEN_HEADER.decode(): replica.info.token, ADAPTER_HEADER.decode(): bytes(adapter).decode()}
        url = replica.info.url + "/health"
        try:
            async with self._session.get(url, headers=headers, timeout=TRY_TIMEOUT) as answer:
                if answer.status == 400:
                    raise ApiError(400, (await answer.json())["error"]["message"], "lora_path", "adapter_unusable")
                return answer.status == 200
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            logger.warning("the replica %s has not loaded the adapter %s: %r", replica.id, adapter.id, error)
            return False


async def _read(request: Request, kind: type[Asked]) -> Asked:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BODY_BYTES:
            raise ApiError(413, f"the request body is over {MOST_BODY_BYTES} bytes", code="body_too_large")
    try:
        return msgspec.json.decode(body, type=kind)
    except UNREADABLE as error:
        raise ApiError(400, f"the request body cannot be read: {explained(error)}", code="invalid_value") from None


async def _written(change: Callable[..., None], *args: Any) -> None:
    """Raises ApiError 507 where the directory cannot be written to."""
    try:
        await asyncio.to_thread(change, *args)
    except OSError as error:
        logger.warning("the record of adapters cannot be written: %r", error)
        message = f"the directory of adapters cannot be written to ({error.strerror}), and it would be forgotten"
        raise ApiError(507, message, code="not_kept") from None


def _unusable(name: str, wrong: str) -> ApiError:
    return ApiError(400, f"the adapter {name!r} cannot be used: {wrong}", "lora_path", "adapter_unusable")


def _listed(name: str) -> ApiError:
    message = f"the adapter {name!r} is listed in the service's configuration: change it there"
    return ApiError(400, message, "lora_name", "adapter_listed")
