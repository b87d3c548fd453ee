"""Adapters of a vLLM engine: loaded with `add_lora`, and known to vLLM's application by their names, vLLM 0.32.

vLLM finds a request's adapter by its model's name in `lora_requests` of its models, where this service puts those that
are in memory alone. What is not there it would load within a step of all requests: here that never happens.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from pathlib import Path
from typing import Any

from vllm.lora.request import LoRARequest

from serve_app.adapters import directory
from serve_app.adapters.adapter import Adapter
from serve_app.adapters.directory import AdapterDirectory
from serve_app.config.adapters import AdaptersConfig
from serve_app.config.schema import ModelConfig
from serve_app.config.vllm_args import PACKAGE, locate
from serve_app.engine.adapters import VERSION
from serve_app.engine.adapters.loaded import AdapterUnusable, LoadedAdapters
from serve_app.engine.adapters.sampling import AdapterDefaults
from serve_app.http.errors import ApiError

POLL_S = 0.005
POLL_MOST_S = 0.1

logger = logging.getLogger("ray.serve")


async def install(llm: Any, state: Any, model: ModelConfig, config: AdaptersConfig) -> LoadedAdapters:
    """The adapters of an engine, those to be loaded before it is ready among them; `state` is its application's.

    One that cannot be loaded is told in the log, and keeps no engine from starting.
    """
    for part in vars(state)["_state"].values():
        if hasattr(part, "default_sampling_params"):
            part.default_sampling_params = AdapterDefaults(part.default_sampling_params)
    own = AdapterDirectory(model)
    loader = _VllmLoader(llm, state.openai_serving_models.lora_requests, own)
    loaded = LoadedAdapters(config.max_loaded, loader, model.id)
    there = {one.id: one for one in await asyncio.to_thread(own.look)} if config.preload else {}
    for id in config.preload:
        try:
            if id not in there:
                raise ApiError(404, f"there is no adapter {id!r} to preload")
            async with loaded.use(there[id]):
                pass
        except ApiError as error:
            logger.warning("%s: %s", model.id, error.message)
    return loaded


class _VllmLoader:
    """Loads into one engine."""

    def __init__(self, llm: Any, known: dict[str, LoRARequest], own: AdapterDirectory) -> None:
        """`known` is where vLLM's application looks names up."""
        self._llm = llm
        self._known = known
        self._own = own
        self._numbers = itertools.count(1)
        self._requests: dict[Adapter, LoRARequest] = {}

    async def load(self, adapter: Adapter) -> None:
        """Raises AdapterUnusable."""
        if adapter.wrong is not None:
            raise AdapterUnusable(adapter.wrong)
        folder = await asyncio.to_thread(_folder, adapter.source)
        if wrong := await asyncio.to_thread(self._own.judge, folder):
            raise AdapterUnusable(wrong)
        # What is read now may be newer than what who routes has seen.
        path = f"{folder}{VERSION}{await asyncio.to_thread(directory.version, folder)}"
        request = LoRARequest(adapter.id, next(self._numbers), path)
        try:
            await self._read(request)
            await self._llm.add_lora(request)
        except Exception as error:
            if self._llm.errored:
                raise
            # It may be there in part.
            await self._llm.remove_lora(request.lora_int_id)
            raise AdapterUnusable(" ".join(str(error).split()) or type(error).__name__) from error
        self._requests[adapter] = self._known[adapter.id] = request

    async def unload(self, adapter: Adapter) -> None:
        request = self._requests.pop(adapter)
        if self._known.get(adapter.id) is request:
            del self._known[adapter.id]
        await self._llm.remove_lora(request.lora_int_id)

    async def _read(self, request: LoRARequest) -> None:
        """Have the workers read its files beside their steps (`worker.ReadBeside`)."""
        number = request.lora_int_id
        await self._llm.collective_rpc("read_adapter", args=(request.lora_name, number, request.lora_path))
        pause_s = POLL_S
        while not all(await self._llm.collective_rpc("has_read_adapter", args=(number,))):
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, POLL_MOST_S)


def _folder(source: str) -> Path:
    """Where an adapter is on this node; one of a repository is fetched first. Raises AdapterUnusable. Blocks."""
    if source.startswith(("/", "~", ".", PACKAGE)):
        return Path(locate(source)).expanduser()
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(source, allow_patterns=["adapter_*"]))
    except Exception as error:
        raise AdapterUnusable(f"{source} cannot be fetched: {' '.join(str(error).split())}") from error
