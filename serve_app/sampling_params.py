"""How answers are sampled, in vLLM's names."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from dataclasses import fields as fields_of
from typing import Any

from serve_app.config_errors import unknown_key


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
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None
    logit_bias: dict[int, float] | None = None


NAMES = tuple(field.name for field in fields_of(SamplingParams))


def fields(params: Any) -> dict[str, Any]:
    """What of a dict, a SamplingParams or vLLM's goes into a request; TypeError for a dict's unknown name."""
    if params is None:
        return {}
    if isinstance(params, SamplingParams):
        given = asdict(params)
    elif isinstance(params, dict):
        if strange := params.keys() - set(NAMES):
            name = min(strange)
            raise TypeError(f"sampling parameter {name!r}: {unknown_key(name, NAMES)}")
        given = params
    else:
        given = {name: getattr(params, name) for name in NAMES if hasattr(params, name)}
    return {name: value for name, value in given.items() if value not in (None, [])}
