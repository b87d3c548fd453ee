"""Ids and times in vLLM's answers follow from who asks, where a router may go on with the answer elsewhere.

Each chunk of a stream repeats the answer's id and time, some have ids of their own, and the last event of
/v1/responses has all of them once more: another replica that goes on with it has to know them. vLLM 0.32 draws ids with
`random_uuid`, which each module has by its own name, and reads the clock as `time.time`. Only the modules of its HTTP
face are given others; the engine's own names of requests stay random.
"""

from __future__ import annotations

import importlib
import sys
import time
from typing import Any

from vllm.utils import random_uuid

from serve_app.engine.continuing import telling

FACES = ("vllm.entrypoints.", "vllm.renderers.", "vllm.parser.", "vllm.tool_parsers.")
TIMED = (
    "vllm.entrypoints.openai.chat_completion.serving",
    "vllm.entrypoints.openai.completion.serving",
    "vllm.entrypoints.openai.responses.serving",
)
"""They ask the time for an answer's `created` alone."""


def install() -> None:
    """In all of these modules that have been imported."""
    for name, module in list(sys.modules.items()):
        if name.startswith(FACES) and vars(module).get("random_uuid") is random_uuid:
            module.random_uuid = next_id  # type: ignore[attr-defined]
    for name in TIMED:
        module = importlib.import_module(name)
        assert vars(module).get("time") is time or isinstance(vars(module).get("time"), _Clock), f"{name} has moved"
        module.time = _Clock()  # type: ignore[attr-defined]


def next_id() -> str:
    """vLLM's `random_uuid`."""
    one = telling.get()
    return random_uuid() if one is None else one.next_id()


class _Clock:
    """The module `time`, in which it is the moment when the present request came."""

    def time(self) -> float:
        one = telling.get()
        return time.time() if one is None else one.identity.began

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)
