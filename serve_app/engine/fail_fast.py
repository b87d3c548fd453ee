"""A request's list is judged up to its first wrong element.

pydantic goes on to the end and makes an error of each way in which each element is wrong: 20,000 numbers for messages,
a body of 40 KiB, take ten seconds of the process that all streams share, and as `input` of a response minutes. vLLM's
request types are told here to stop, vLLM 0.32.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import SchemaValidator

MODULES = (
    "vllm.entrypoints.anthropic.protocol",
    "vllm.entrypoints.generate.generative_scoring.serving",
    "vllm.entrypoints.generate.structured_decisions.protocol",
    "vllm.entrypoints.openai.chat_completion.protocol",
    "vllm.entrypoints.openai.completion.protocol",
    "vllm.entrypoints.openai.responses.protocol",
    "vllm.entrypoints.pooling.classify.protocol",
    "vllm.entrypoints.pooling.embed.protocol",
    "vllm.entrypoints.pooling.pooling.protocol",
    "vllm.entrypoints.pooling.scoring.protocol",
    "vllm.entrypoints.serve.tokenize.protocol",
)
"""Where the bodies of the routes in `serve_app.http.model_routes` are defined."""
COLLECTIONS = frozenset({"list", "dict", "set", "frozenset", "tuple"})
BESIDE = frozenset({"default", "metadata", "serialization"})
"""Parts of a type that have no say in what is valid."""


def install() -> None:
    """To be called before vLLM makes its application, which takes the validators as they are then."""
    for name in MODULES:
        importlib.import_module(name)
    todo: list[Any] = [model for model in _models(BaseModel) if model.__module__.startswith("vllm.entrypoints.")]
    done: dict[Any, None] = {}
    while todo:
        if (kind := todo.pop()) not in done and _is_complete(kind):
            done[kind] = None
            todo += _stop_early(kind.__pydantic_core_schema__)
    for kind in done:
        kind.__pydantic_validator__ = SchemaValidator(kind.__pydantic_core_schema__, _use_prebuilt=False)


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for child in model.__subclasses__():
        yield child
        yield from _models(child)


def _is_complete(kind: Any) -> bool:
    if "__pydantic_complete__" not in vars(kind):
        return False
    if not kind.__pydantic_complete__ and issubclass(kind, BaseModel):
        kind.model_rebuild(raise_errors=False)
    return bool(kind.__pydantic_complete__)


def _stop_early(schema: Any) -> Iterator[type]:
    """In place: what is made of the type later takes it from there. Gives the models and dataclasses in it, which are
    compiled by themselves."""
    if isinstance(schema, dict):
        kind = schema.get("type")  # a field may have this name
        is_type = isinstance(kind, str)
        if is_type and kind in COLLECTIONS:
            schema["fail_fast"] = True
        if kind in ("model", "dataclass"):
            yield schema["cls"]
        for name, part in schema.items():
            if not (is_type and name in BESIDE):
                yield from _stop_early(part)
    elif isinstance(schema, (list, tuple)):
        for part in schema:
            yield from _stop_early(part)
