"""The settings that vLLM and Ray Serve accept, read from their source."""

from __future__ import annotations

from functools import lru_cache

from serve_app.config.declared import Field, declared, dictionary_keys

PARSERS = {
    "tool_parser": ("tool_parsers/__init__.py", "_TOOL_PARSERS_TO_REGISTER"),
    "reasoning_parser": ("reasoning/__init__.py", "_REASONING_PARSERS_TO_REGISTER"),
}
"""Where in vLLM the names stand that a key of this configuration may have."""


@lru_cache
def engine_fields() -> dict[str, Field]:
    """vLLM's AsyncEngineArgs; empty when vLLM is not installed."""
    return declared("vllm", "engine/arg_utils.py", "AsyncEngineArgs")


def engine_arguments() -> frozenset[str]:
    """Names of vLLM's AsyncEngineArgs; empty when vLLM is not installed."""
    return frozenset(engine_fields())


@lru_cache
def parsers(key: str) -> frozenset[str]:
    """What vLLM knows for `tool_parser` or `reasoning_parser`; empty when vLLM is not installed."""
    return dictionary_keys("vllm", *PARSERS[key])


@lru_cache
def serve_fields(schema: str) -> dict[str, Field]:
    """One of Ray Serve's schemas (`ServeDeploySchema`, ...); empty when Ray is not installed."""
    return declared("ray", "serve/schema.py", schema)


def serve_keys(schema: str) -> frozenset[str]:
    """Keys of one of Ray Serve's schemas; empty when Ray is not installed."""
    return frozenset(serve_fields(schema))
