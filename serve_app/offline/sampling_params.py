"""How answers are sampled, in vLLM's names, and what of it goes into a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from dataclasses import fields as fields_of
from typing import Any

from serve_app.config.errors import unknown_key


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """What is None is the model's own default, as its configuration says."""

    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    repetition_detection: Any = None
    """vLLM's RepetitionDetectionParams, or a dict of its fields."""
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None
    logit_bias: dict[int, float] | None = None
    allowed_token_ids: list[int] | None = None
    bad_words: list[str] | None = None
    structured_outputs: Any = None
    """vLLM's StructuredOutputsParams, or a dict of its fields: {"json": SCHEMA}, {"choice": ["yes", "no"]}, ..."""
    logprobs: int | None = None
    """Log probabilities given for each token: the token's own, and so many of the likeliest. -1 is all."""
    prompt_logprobs: int | None = None
    logprob_token_ids: list[int] | None = None
    thinking_token_budget: int | None = None
    watermarking: bool | None = None
    routed_experts_prompt_start: int | None = None
    extra_args: dict[str, Any] | None = None
    """For plugins; `vllm_xargs` of a request."""


NAMES = tuple(field.name for field in fields_of(SamplingParams))
REFUSED = {
    "prompt_logprob_token_ids": None,
    "prompt_logprob_start": None,
    "flat_logprobs": False,
    "detokenize": True,
    "trace_decode_token_ids": None,
}
"""Fields of vLLM's object that no request has, with the values that ask for nothing."""
WITHOUT_EFFECT = frozenset(
    {"output_kind", "stream_interval", "skip_clone", "output_text_buffer_length", "skip_reading_prefix_cache"}
)
"""Fields of vLLM's object that say how an engine hands on what is not complete, or that it sets by itself."""


def fields(params: Any, chat: bool) -> dict[str, Any]:
    """What of a dict, a SamplingParams or vLLM's goes into a request for a chat, or for a completion.

    Raises TypeError for a name that is not known, and for what a request cannot ask for.
    """
    if params is None:
        return {}
    if isinstance(params, Mapping):
        given = dict(params)
    elif isinstance(params, SamplingParams):
        given = {name: getattr(params, name) for name in NAMES}
    else:
        given = _of_vllm(params)
    if strange := given.keys() - set(NAMES):
        name = min(map(str, strange))
        raise TypeError(f"sampling parameter {name!r}: {unknown_key(name, NAMES)}")
    asked = {name: _plain(value) for name, value in given.items() if not _is_nothing(value)}
    if "extra_args" in asked:
        asked["vllm_xargs"] = asked.pop("extra_args")
    return _with_logprobs(asked, chat)


def _of_vllm(params: Any) -> dict[str, Any]:
    """The public fields of vLLM's own object. Raises TypeError."""
    names = getattr(params, "__struct_fields__", None) or getattr(params, "__dict__", None)
    if names is None:
        raise TypeError(f"sampling parameters are a dict or a SamplingParams, not {type(params).__name__}")
    given = {name: getattr(params, name) for name in names if not name.startswith("_")}
    for name, nothing in REFUSED.items():
        value = given.pop(name, nothing)
        if value is not nothing and (nothing is None or value != nothing):
            raise TypeError(f"sampling parameter {name!r}: a request has no such field, leave it at {nothing!r}")
    return {name: value for name, value in given.items() if name not in WITHOUT_EFFECT}


def _with_logprobs(asked: dict[str, Any], chat: bool) -> dict[str, Any]:
    """A chat asks for them with a flag and a number, a completion with the number."""
    number = asked.pop("logprobs", 0 if "logprob_token_ids" in asked else None)
    if number is None or number is False:
        return asked
    return asked | ({"logprobs": True, "top_logprobs": int(number)} if chat else {"logprobs": int(number)})


def _plain(value: Any) -> Any:
    """Of vLLM's own objects, the fields that are set."""
    if not is_dataclass(value) or isinstance(value, type):
        return value
    return {
        field.name: getattr(value, field.name)
        for field in fields_of(value)
        if not field.name.startswith("_") and getattr(value, field.name) != field.default
    }


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, list) and not value)
