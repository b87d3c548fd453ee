"""Adapters of a vLLM engine: loaded with `add_lora`, and known to vLLM's application by their names, vLLM 0.32.

vLLM finds a request's adapter by its model's name in `lora_requests` of its models, where this service puts those that
are in memory alone. It loads what is not there while a step of all requests waits: here that never happens.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import Any

from vllm.lora.request import LoRARequest

from serve_app.adapters.adapter import Adapter, listed
from serve_app.config.adapters import AdaptersConfig
from serve_app.config.schema import ModelConfig
from serve_app.config.vllm_args import locate
from serve_app.engine.adapters.loaded import AdapterUnusable, LoadedAdapters
from serve_app.engine.adapters.sampling import AdapterDefaults
from serve_app.http.errors import ApiError

logger = logging.getLogger("ray.serve")


async def install(llm: Any, state: Any, model: ModelConfig, config: AdaptersConfig) -> LoadedAdapters:
    """The adapters of an engine, those to be loaded before it is ready among them; `state` is its application's.

    One that cannot be loaded is told in the log, and keeps no engine from starting.
    """
    for name, part in vars(state)["_state"].items():
        if hasattr(part, "default_sampling_params"):
            part.default_sampling_params = AdapterDefaults(part.default_sampling_params)
            logger.debug("%s heeds adapters' sampling defaults", name)
    loaded = LoadedAdapters(config.max_loaded, _Loader(llm, state.openai_serving_models.lora_requests))
    for adapter in listed(config):
        if adapter.id in config.preload:
            try:
                async with loaded.use(adapter):
                    pass
            except ApiError as error:
                logger.warning("%s: %s", model.id, error.message)
    return loaded


class _Loader:
    """Loads into one engine."""

    def __init__(self, llm: Any, known: dict[str, LoRARequest]) -> None:
        """`known` is where vLLM's application looks names up."""
        self._llm = llm
        self._known = known
        self._numbers = itertools.count(1)
        self._requests: dict[Adapter, LoRARequest] = {}

    async def load(self, adapter: Adapter) -> None:
        request = LoRARequest(adapter.id, next(self._numbers), await asyncio.to_thread(locate, adapter.source))
        try:
            await self._llm.add_lora(request)
        except Exception as error:
            if self._llm.errored:
                raise
            # It may be there in part.
            await self._llm.remove_lora(request.lora_int_id)
            raise AdapterUnusable(_reason(error)) from error
        self._requests[adapter] = self._known[adapter.id] = request

    async def unload(self, adapter: Adapter) -> None:
        request = self._requests.pop(adapter)
        if self._known.get(adapter.id) is request:
            del self._known[adapter.id]
        await self._llm.remove_lora(request.lora_int_id)


def _reason(error: Exception) -> str:
    """vLLM's in one line."""
    return " ".join(str(error).split()) or type(error).__name__
