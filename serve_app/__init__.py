"""An OpenAI-compatible service for LFM2 text and vision models on Ray Serve and vLLM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serve_app.offline.llm import LLM, SamplingParams

__all__ = ["LLM", "SamplingParams"]


def __getattr__(name: str) -> Any:
    """`LLM` and `SamplingParams`, imported by whoever asks for them alone."""
    if name in __all__:
        from serve_app.offline import llm

        return getattr(llm, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
