"""Puts the trial of a grammar before vLLM's handling of requests; vLLM 0.32's private parts it touches are here.

Everything that constrains an answer passes `OnlineRenderer`'s `preprocess_chat` or `preprocess_completion`, which turn
what tools ask for into a schema, before a stream's first byte and before the engine. vLLM's own check, which would
convert the grammar once more, on the event loop and without a bound, is replaced: only what was tried passes.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import vllm.v1.structured_output.backend_xgrammar as backend
from vllm.exceptions import GracefulHTTPError, VLLMValidationError
from vllm.sampling_params import SamplingParams, StructuredOutputsParams
from vllm.v1.structured_output.backend_types import StructuredOutputOptions
from vllm.v1.structured_output.request import get_structured_output_key
from vllm.v1.structured_output.utils import grammar_is_likely_lark

from serve_app.engine.structured import bounds
from serve_app.engine.structured.bounds import UnusableConstraint
from serve_app.engine.structured.trials import Busy, Trials

PREPROCESSING = ("preprocess_chat", "preprocess_completion")
NOT_ENFORCED = (
    *("multipleOf", "uniqueItems", "contains", "minContains", "maxContains", "format", "propertyNames"),
    *("patternProperties", "allOf", "pattern"),
)
"""Keywords of JSON Schema that xgrammar cannot enforce, alone or beside others."""


def install(llm: Any, state: Any) -> Trials | None:
    """From now on requests to vLLM's app are tried first; None where another backend than xgrammar was configured."""
    if llm.vllm_config.structured_outputs_config.backend != "xgrammar":
        return None
    trials = Trials(lambda: _tokenizer_info(llm))
    for name in PREPROCESSING:
        setattr(state.online_renderer, name, _tried(getattr(state.online_renderer, name), trials))
    backend.validate_xgrammar_grammar = _Validation(trials)
    return trials


def constraint(params: StructuredOutputsParams) -> tuple[str, str]:
    """Kind and text of what is to be compiled; raises UnusableConstraint where there is nothing to compile."""
    if params.json_object is False or params.all_constraints_none():
        raise UnusableConstraint("it holds no constraint")
    if params.choice is not None:
        # As a grammar it comes again with the next prompt of the request.
        return "ebnf", bounds.choice_grammar(params.choice)
    try:
        option, spec = get_structured_output_key(params)
    except RecursionError:
        raise UnusableConstraint(f"it is nested more than {bounds.MOST_DEPTH} levels deep") from None
    if option is StructuredOutputOptions.JSON_OBJECT:
        return "json", '{"type": "object"}'
    if option is StructuredOutputOptions.GRAMMAR:
        return ("lark" if grammar_is_likely_lark(spec) else "ebnf"), spec
    return option.name.lower(), spec


def look_at(kind: str, spec: str) -> None:
    """Raise UnusableConstraint for what need not be tried: it is too large, or xgrammar would not enforce all of it."""
    bounds.check(kind, spec)
    if kind == "json" and backend.has_xgrammar_unsupported_json_features(json.loads(spec)):
        used = ", ".join(name for name in NOT_ENFORCED if f'"{name}"' in spec)
        raise UnusableConstraint(f"the schema asks for what cannot be enforced (by one of: {used}); leave it out")
    if kind == "regex" and "\x00" in spec:
        raise UnusableConstraint("a regular expression cannot hold a NUL character")


async def _try(params: StructuredOutputsParams, trials: Trials) -> None:
    kind, spec = constraint(params)
    if not trials.known(kind, spec):
        await asyncio.to_thread(look_at, "choice" if params.choice is not None else kind, spec)
        await trials.check(kind, spec)


class _Validation:
    """Stands for vLLM's `validate_xgrammar_grammar`, which runs on the event loop and has no bounds."""

    def __init__(self, trials: Trials) -> None:
        self._trials = trials

    def __call__(self, sampling_params: SamplingParams) -> None:
        params = sampling_params.structured_outputs
        if params is None:
            return
        try:
            kind, spec = constraint(params)
        except UnusableConstraint as refused:
            raise _client_error(params, refused) from None
        # A structural tag comes here while the body is read as well, before its trial.
        if kind != "structural_tag" and not self._trials.known(kind, spec):
            raise _client_error(params, UnusableConstraint("it was not tried; send the request again"))
        if params.choice is not None:
            params.choice, params.grammar = None, spec


def _tried(preprocess: Callable[..., Awaitable[Any]], trials: Trials) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(preprocess)
    async def preprocessed(request: Any, *args: Any, **kwargs: Any) -> Any:
        result = await preprocess(request, *args, **kwargs)
        # Requests to tokenize or to embed have no answer to constrain.
        extract = getattr(request, "extract_structured_outputs", None)
        if extract is not None and (params := extract()) is not None:
            try:
                await _try(params, trials)
            except UnusableConstraint as refused:
                raise _client_error(params, refused) from None
            except Busy as busy:
                raise GracefulHTTPError(str(busy), HTTPStatus.SERVICE_UNAVAILABLE) from None
        return result

    return preprocessed


def _client_error(params: StructuredOutputsParams, refused: UnusableConstraint) -> VLLMValidationError:
    names = ("json", "regex", "choice", "grammar", "structural_tag")
    what = next((name for name in names if getattr(params, name) is not None), "structured_outputs")
    return VLLMValidationError(f"the {_SAID[what]} cannot be used: {refused}", parameter="structured_outputs")


_SAID = {
    "json": "JSON schema of the answer or its tools",
    "regex": "regular expression",
    "choice": "choice",
    "grammar": "grammar",
    "structural_tag": "structural tag",
    "structured_outputs": "constraint",
}


def _tokenizer_info(llm: Any) -> str:
    import xgrammar

    info = xgrammar.TokenizerInfo.from_huggingface(
        llm.renderer.get_tokenizer(), vocab_size=llm.model_config.get_vocab_size()
    )
    text: str = info.serialize_json()
    return text
