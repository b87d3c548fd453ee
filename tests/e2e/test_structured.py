"""Structured outputs: the same answer wherever a request goes, and 400 with the reason before an engine sees it."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from tests.e2e.conftest import TEXT
from tools.demo.facts import REPLICA_TOOL

ASK = [{"role": "user", "content": "How many replicas does lfm2-demo have?"}]
TUPLE = {"type": "array", "items": [{"type": "string"}, {"type": "integer"}]}
RECURSIVE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"next": {"type": "array", "maxItems": 1, "items": {"$ref": "#/$defs/node"}}},
            "required": ["next"],
            "additionalProperties": False,
        }
    },
}
SLOW = "root ::= a{1,90}\na ::= b{1,90}\nb ::= c{1,90}\nc ::= [a-z]{1,90}"

CONSTRAINTS = [
    ({"json": RECURSIVE}, 200, ""),
    ({"json": {"type": "object", "patternProperties": {"^x": {"type": "integer"}}}}, 200, ""),
    ({"json_object": True}, 200, ""),
    ({"regex": "a{3}"}, 200, ""),
    ({"choice": ['a "b" \\\n', "c"]}, 200, ""),
    ({"choice": [f"number {number}" for number in range(1000)]}, 200, ""),
    ({"grammar": 'root ::= root "a" | "a"'}, 200, ""),
    ({"grammar": 'start: "a" | start "b"'}, 200, ""),
    ({"json": TUPLE}, 400, "items must be"),
    ({"json": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}}, 400, "no text"),
    ({"json": {"type": "integer", "multipleOf": 5}}, 400, "multipleOf"),
    ({"json": {"type": "array", "minItems": 100_000}}, 400, "minItems"),
    ({"json": {"properties": {f"f{number}": {} for number in range(20_000)}}}, 400, "characters"),
    ({"json": "{"}, 400, "not JSON"),
    ({"regex": "(?=a)b"}, 400, "Lookahead"),
    ({"regex": "((a{1,100}){1,100}){1,100}"}, 400, "repeats"),
    ({"choice": []}, 400, "at least one"),
    ({"grammar": 'root ::= "a"\nroot ::= "b"'}, 400, "multiple times"),
    ({"grammar": "root ::= root"}, 400, "no text"),
    ({"grammar": SLOW}, 400, "too long|more than"),
    ({"structural_tag": "{}"}, 400, "format"),
]


def everywhere(http: httpx.Client, body: dict) -> list[httpx.Response]:
    """The answers of several sessions, which are not all of one replica."""

    def post(session: int) -> httpx.Response:
        return http.post("/v1/completions", json=body, headers={"x-session-id": f"structured-{session}"})

    with ThreadPoolExecutor(6) as threads:
        return list(threads.map(post, range(6)))


@pytest.mark.parametrize("reverse", [False, True])
def test_every_replica_says_the_same_whatever_it_saw_before(http: httpx.Client, reverse: bool) -> None:
    for constraint, status, reason in reversed(CONSTRAINTS) if reverse else CONSTRAINTS:
        body = {"model": TEXT, "prompt": "a", "max_tokens": 4, "structured_outputs": constraint}
        answers = everywhere(http, body)
        assert {answer.status_code for answer in answers} == {status}, (str(constraint)[:200], answers[0].text)
        if status == 400:
            messages = [answer.json()["error"]["message"] for answer in answers]
            assert len(set(messages)) == 1
            assert any(word in messages[0] for word in reason.split("|")), messages[0]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/v1/chat/completions",
            {
                "messages": ASK,
                "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": TUPLE}},
            },
        ),
        (
            "/v1/chat/completions",
            {
                "messages": ASK,
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": TUPLE}}}}],
                "tool_choice": "required",
            },
        ),
        (
            "/v1/chat/completions",
            {
                "messages": ASK,
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": TUPLE}}}}],
                "tool_choice": {"type": "function", "function": {"name": "f"}},
            },
        ),
        (
            "/v1/responses",
            {"input": "Hello", "text": {"format": {"type": "json_schema", "name": "x", "schema": TUPLE}}},
        ),
        (
            "/v1/messages",
            {
                "messages": ASK,
                "max_tokens": 20,
                "tools": [{"name": "f", "input_schema": {"type": "object", "properties": {"a": TUPLE}}}],
                "tool_choice": {"type": "any"},
            },
        ),
        (
            "/v1/chat/completions/batch",
            {
                "messages": [ASK, ASK],
                "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": TUPLE}},
            },
        ),
        (
            "/v1/chat/completions",
            {"messages": ASK, "response_format": {"type": "structural_tag", "format": {"type": "unheard of"}}},
        ),
    ],
    ids=["response_format", "required", "named", "text.format", "messages", "chat batch", "structural_tag"],
)
def test_it_is_refused_on_every_route_before_a_stream_begins(
    http: httpx.Client, path: str, body: dict, stream: bool
) -> None:
    if stream and path.endswith("/batch"):
        pytest.skip("this route does not stream")
    answer = http.post(path, json={"model": TEXT, "stream": stream, **body})
    assert answer.status_code == 400 and "cannot be used" in answer.text, answer.text


def test_schemas_hold(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"count": {"type": "integer"}, "model": {"enum": ["lfm2-demo", "other"]}},
        "required": ["count", "model"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=TEXT,
        messages=ASK,
        max_tokens=80,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )
    text = answer.choices[0].message.content
    assert json.loads(text).keys() == {"count", "model"} and not any(one.isspace() for one in text)


def test_a_choice_holds_for_each_prompt_and_answer(client: openai.OpenAI) -> None:
    answers = client.completions.create(
        model=TEXT,
        prompt=["a", "b"],
        n=2,
        max_tokens=20,
        extra_body={"structured_outputs": {"choice": ["left", "right"]}},
    )
    assert len(answers.choices) == 4 and {choice.text for choice in answers.choices} <= {"left", "right"}


def test_an_unknown_tool_is_called_without_white_space_until_the_end(client: openai.OpenAI) -> None:
    parameters = {"type": "object", "properties": {"seats": {"type": "integer"}}, "required": ["seats"]}
    book = {"type": "function", "function": {"name": "book_flight", "parameters": parameters}}
    choice = client.chat.completions.create(
        model=TEXT, messages=ASK, tools=[book], tool_choice="required", max_tokens=300, parallel_tool_calls=False
    ).choices[0]
    assert choice.message.content or choice.message.tool_calls
    if choice.finish_reason == "tool_calls":
        assert json.loads(choice.message.tool_calls[0].function.arguments)["seats"] is not None


def test_a_stream_goes_on_beside_a_hostile_grammar(client: openai.OpenAI, http: httpx.Client) -> None:
    """Compiling it takes the trial's whole time; the stream is not to wait for that."""
    hostile = SLOW + f"\n# {time.time_ns()}"
    with ThreadPoolExecutor(1) as threads:
        body = {"model": TEXT, "prompt": "a", "max_tokens": 4, "structured_outputs": {"grammar": hostile}}
        refused = threads.submit(http.post, "/v1/completions", json=body)
        during = 0
        while not refused.done():
            stream = client.chat.completions.create(
                model=TEXT, messages=ASK, tools=[REPLICA_TOOL], stream=True, max_tokens=20
            )
            assert list(stream)
            during += 1
        assert refused.result().status_code == 400 and during > 1
