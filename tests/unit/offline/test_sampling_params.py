"""What of vLLM's sampling parameters goes into a request: all of it, or it is refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as field_of
from types import SimpleNamespace
from typing import Any

import pytest

from serve_app import SamplingParams
from serve_app.config.declared import declared
from serve_app.offline.sampling_params import NAMES, REFUSED, WITHOUT_EFFECT, fields

OF_VLLM = {name for name in declared("vllm", "sampling_params.py", "SamplingParams") if not name.startswith("_")}
"""Its public fields, read from its source: importing it takes long."""
RENAMED = {"logprobs": "top_logprobs", "extra_args": "vllm_xargs"}


@dataclass
class Constraint:
    """The shape of vLLM's StructuredOutputsParams."""

    json: Any = None
    choice: list[str] | None = None
    disable_any_whitespace: bool = False
    _backend: str | None = field_of(default=None, init=False)


def of_vllm(**changed: Any) -> SimpleNamespace:
    """vLLM's object as it is after its own initialization."""
    usual = dict.fromkeys(OF_VLLM, None) | {"n": 1, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
    usual |= {"stop": [], "bad_words": [], "stop_token_ids": [], "skip_reading_prefix_cache": False}
    return SimpleNamespace(**(usual | REFUSED | {"_all_stop_token_ids": {2}, "output_kind": 2} | changed))


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 0, "max_tokens": 8, "stop": None},
        SamplingParams(temperature=0, max_tokens=8),
        SimpleNamespace(temperature=0, max_tokens=8, stop=[], output_kind=2),
    ],
)
def test_sampling_is_a_dict_ours_or_vllms(params: object) -> None:
    for chat in (True, False):
        assert fields(params, chat) == {"temperature": 0, "max_tokens": 8}


def test_a_misspelt_parameter_is_told() -> None:
    with pytest.raises(TypeError, match="did you mean `temperature`"):
        fields({"temprature": 0}, True)


def test_every_field_of_vllms_is_carried_or_refused_or_without_effect() -> None:
    assert len(OF_VLLM) > 30
    assert set(NAMES) | REFUSED.keys() | WITHOUT_EFFECT == OF_VLLM
    assert not set(NAMES) & (REFUSED.keys() | WITHOUT_EFFECT)


@pytest.mark.parametrize(("route", "request_type"), [("chat_completion", "Chat"), ("completion", "")])
def test_every_carried_field_is_one_of_a_request(route: str, request_type: str) -> None:
    of_request = declared("vllm", f"entrypoints/openai/{route}/protocol.py", f"{request_type}CompletionRequest")
    for name in NAMES:
        sent = RENAMED.get(name, name) if request_type or name != "logprobs" else name
        assert sent in of_request, name


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"structured_outputs", "logprobs", "extra_args"}))
def test_each_field_that_is_set_goes_along(name: str) -> None:
    for params in (of_vllm(**{name: 7}), {name: 7}, SamplingParams(**{name: 7})):
        assert fields(params, True)[name] == 7


def test_a_constraint_goes_along_as_what_is_set_of_it() -> None:
    constraint = Constraint(choice=["yes", "no"])
    constraint._backend = "xgrammar"
    for params in (of_vllm(structured_outputs=constraint), {"structured_outputs": constraint}):
        assert fields(params, True)["structured_outputs"] == {"choice": ["yes", "no"]}
    assert fields({"structured_outputs": {"json": {}}}, False) == {"structured_outputs": {"json": {}}}


@pytest.mark.parametrize(
    ("asked", "chat", "completion"),
    [
        ({"logprobs": 3}, {"logprobs": True, "top_logprobs": 3}, {"logprobs": 3}),
        ({"logprobs": 0}, {"logprobs": True, "top_logprobs": 0}, {"logprobs": 0}),
        ({"logprobs": True}, {"logprobs": True, "top_logprobs": 1}, {"logprobs": 1}),
        ({"logprobs": False}, {}, {}),
        (
            {"logprob_token_ids": [5]},
            {"logprob_token_ids": [5], "logprobs": True, "top_logprobs": 0},
            {"logprob_token_ids": [5], "logprobs": 0},
        ),
        ({"extra_args": {"a": 1}}, {"vllm_xargs": {"a": 1}}, {"vllm_xargs": {"a": 1}}),
    ],
)
def test_what_requests_name_otherwise(asked: dict[str, Any], chat: dict[str, Any], completion: dict[str, Any]) -> None:
    assert (fields(asked, True), fields(asked, False)) == (chat, completion)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt_logprob_token_ids", [[1]]),
        ("prompt_logprob_start", 0),
        ("flat_logprobs", True),
        ("detokenize", False),
        ("trace_decode_token_ids", []),
    ],
)
def test_what_no_request_has_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"{name}.*no such field"):
        fields(of_vllm(**{name: value}), True)


@pytest.mark.parametrize("params", ["temperature=0", 5, SimpleNamespace(warmth=1), {5: 1}])
def test_what_are_no_sampling_parameters_is_told(params: object) -> None:
    with pytest.raises(TypeError, match="sampling parameter"):
        fields(params, True)
