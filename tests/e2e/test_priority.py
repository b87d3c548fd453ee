"""A client's priority on its way into vLLM's engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from vllm.pooling_params import PoolingParams
from vllm.sampling_params import SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineGenerateError

from serve_app.engine.priority import DownwardsLLM


class Taken(Exception):
    """What vLLM's own `add_request` got."""


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> DownwardsLLM:
    async def add_request(self: AsyncLLM, *args: Any, priority: int, **kwargs: Any) -> None:
        raise Taken(priority)

    monkeypatch.setattr(AsyncLLM, "add_request", add_request)
    llm = object.__new__(DownwardsLLM)
    llm.log_requests = False
    return llm


@pytest.mark.parametrize(("asked", "given"), [(-(2**63), 0), (-1, 0), (0, 0), (10, 10), (2**63 - 1, 2**63 - 1)])
@pytest.mark.parametrize("task", ["generate", "encode"])
async def test_it_is_only_lowered(llm: DownwardsLLM, task: str, asked: int, given: int) -> None:
    async def end(outputs: AsyncGenerator) -> None:
        async for _ in outputs:
            pass

    with pytest.raises(EngineGenerateError) as failed:
        if task == "generate":
            await end(llm.generate("a", SamplingParams(), "id", priority=asked))
        else:
            await end(llm.encode("a", PoolingParams(), "id", priority=asked))
    assert isinstance(failed.value.__cause__, Taken) and failed.value.__cause__.args == (given,)
