"""LFM2's calls as the parser reads them, whole and streamed: those that are no calls, and those that are not whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.parser import ParserManager

import serve_app
from serve_app.config.schema import ImageConfig, ModelConfig
from serve_app.engine import tool_calls
from serve_app.engine.vllm import _arguments
from tools.demo.facts import REPLICA_TOOL

START, END = tool_calls.TOOL_CALL_START, tool_calls.TOOL_CALL_END


@pytest.fixture(scope="module")
def parsers() -> Any:
    """Makes a new parser."""
    tool_calls.install()
    tokenizer = AutoTokenizer.from_pretrained(Path(serve_app.__file__).parent / "demo" / "lfm2-demo")
    kind = ParserManager.get_parser(tool_parser_name="lfm2", enable_auto_tools=True, tokenizer=tokenizer)
    return lambda tools: kind(tokenizer, tools)


def request(choice: str = "auto") -> ChatCompletionRequest:
    message = {"role": "user", "content": "Hello"}
    return ChatCompletionRequest(model="m", messages=[message], tools=[REPLICA_TOOL], tool_choice=choice)


def whole(parsers: Any, text: str, choice: str = "auto") -> tuple[str, list[tuple[str, str]]]:
    asked = request(choice)
    _, content, calls = parsers(asked.tools).parse(text, asked, enable_auto_tools=True)
    return content or "", [(call.name, call.arguments) for call in calls or []]


def streamed(parsers: Any, text: str, choice: str = "auto") -> tuple[str, list[tuple[str, str]]]:
    asked, content, calls = request(choice), "", {}
    parser = parsers(asked.tools)
    pieces = _pieces(text)
    for at, piece in enumerate(pieces):
        last = at == len(pieces) - 1
        delta = parser.parse_delta(piece, [], asked, prompt_token_ids=[1], finished=last)
        if delta is not None:
            content += delta.content or ""
            for call in delta.tool_calls or []:
                name, arguments = calls.get(call.index, ("", ""))
                calls[call.index] = (name + (call.function.name or ""), arguments + (call.function.arguments or ""))
    return content, [calls[index] for index in sorted(calls)]


def _pieces(text: str) -> list[str]:
    """A token a piece: the sentinels whole, the rest a character each."""
    pieces: list[str] = []
    while text:
        size = next((len(mark) for mark in (START, END) if text.startswith(mark)), 1)
        pieces.append(text[:size])
        text = text[size:]
    return pieces


@pytest.mark.parametrize("read", [whole, streamed])
@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ("Hello", "Hello", []),
        (f'{START}[get(a="b", c=1)]{END}', "", [("get", {"a": "b", "c": 1})]),
        (f"{START}hello{END}", "hello", []),
        (f"{START}[get", "[get", []),
        (f"{START}[1, 2]{END}", "[1, 2]", []),
        (f"Look: {START}[ge", "Look: [ge", []),
        (f"a{END}b", "ab", []),
        (f'{START}[one(a=1), two(b="2")]{END}', "", [("one", {"a": 1}), ("two", {"b": "2"})]),
    ],
)
def test_what_is_a_call_and_what_is_text(parsers: Any, read: Any, text: str, content: str, calls: list) -> None:
    said, called = read(parsers, text)
    assert said == content and [(name, json.loads(arguments)) for name, arguments in called] == calls


@pytest.mark.parametrize("read", [whole, streamed])
def test_a_call_that_is_cut_off_has_its_name_and_what_there_is_of_its_arguments(parsers: Any, read: Any) -> None:
    said, called = read(parsers, f'{START}[one(a=1), two(b="abc", c="de')
    assert not said and [name for name, _ in called] == ["one", "two"]
    assert json.loads(called[0][1]) == {"a": 1} and '{"b": "abc", "c": "de'.startswith(called[1][1])
    assert "abc" in called[1][1]


@pytest.mark.parametrize("read", [whole, streamed])
@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ('[{"name":"get","parameters":{"a":1}}]', "", [("get", '{"a":1}')]),
        ('[{"name":"get","parameters":{"a":"b', "", [("get", '{"a":"b')]),
        ('[{"name":"ge', '[{"name":"ge', []),
        ("[", "[", []),
    ],
)
def test_required_as_json(parsers: Any, read: Any, text: str, content: str, calls: list) -> None:
    said, called = read(parsers, text, "required")
    assert (said, [(name, arguments.replace(" ", "")) for name, arguments in called]) == (content, calls)


def test_with_none_a_call_cannot_begin(parsers: Any) -> None:
    asked = request("none")
    parser = parsers(asked.tools)
    token = parser.model_tokenizer.convert_tokens_to_ids(START)
    assert parser.adjust_request(asked).logit_bias == {str(token): -100.0}
    assert not parser.adjust_request(request("auto")).logit_bias


@pytest.mark.parametrize(
    ("users", "backend", "compact"),
    [({}, "xgrammar", True), ({"backend": "guidance"}, "guidance", True), ({"backend": "auto"}, "auto", False)],
)
def test_a_mapping_in_engine_args_is_vllms_configuration(users: dict, backend: str, compact: bool) -> None:
    model = ModelConfig(id="lfm2-demo", engine_args={"structured_outputs_config": users}, reasoning_parser="qwen3")
    config = _arguments(model, ImageConfig()).structured_outputs_config
    assert (config.backend, config.disable_any_whitespace) == (backend, compact)
    assert config.reasoning_parser == "qwen3"
