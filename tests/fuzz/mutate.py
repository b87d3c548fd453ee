"""What the fuzz suite does to a request: each step is drawn from a seed of its own, so that any can be left out."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

from tests.fuzz import seeds
from tests.fuzz.request import LONG_NUMBER, Request

DEEP: Any = json.loads("[" * 400 + "]" * 400)
VALUES: Sequence[Any] = (
    *(None, True, False, 0, -1, 1, 2, 0.5, 2**31, -(2**31), 2**63, 2**64, -(2**64), 10**400, 1e308, LONG_NUMBER),
    *(float("nan"), float("inf"), float("-inf"), "", " ", "0", "-1", "true", "null", "nan", "²", "٣"),
    *("\x00", "\ud800", "a\udfff", "\ufeffx", "\u202e", "👩‍👩‍👧‍👦" * 20, "é" * 300, "a" * 20_000, "../../etc/passwd"),
    *([], {}, [[]], [{}], [None], {"": ""}, [1, "a", None], [[1]] * 5, DEEP, {"type": "text"}, "%s%n", "{{ x }}"),
)
FIELDS: dict[str, Sequence[Any]] = {
    "n": (0, 2, 5, 10_000),
    "best_of": (2, 0),
    "stream": (True, "true", 1),
    "stream_options": ({}, {"include_usage": 1}),
    "logprobs": (True, 0, 5, 100),
    "top_logprobs": (0, 20, -2),
    "prompt_logprobs": (1, -1, 100),
    "echo": (True,),
    "logit_bias": ({"0": 100}, {"-1": 5}, {"99999999": 1}, {"x": 1}),
    "stop": ("a", [], [""], ["a"] * 100),
    "stop_token_ids": ([0], [-1], [2**40]),
    "allowed_token_ids": ([5, 6], [], [-1], [10**9]),
    "bad_words": (["a"], [""]),
    "temperature": (0, 2, 1e-9, 100),
    "top_p": (0, 1, 1.1),
    "top_k": (0, -1, 2**64),
    "min_p": (0, 1, 2),
    "repetition_penalty": (0, 1e-30, 1e30),
    "presence_penalty": (-2, 3),
    "frequency_penalty": (-2, 3),
    "seed": (-1, 2**64),
    "min_tokens": (2, -1, 10**9),
    "max_tokens": (0, 1, 16, 10**9),
    "max_completion_tokens": (1, 0),
    "ignore_eos": (True,),
    "tools": ([], [seeds.TOOL], [{}], [{"type": "function"}], [{"type": "web_search"}]),
    "tool_choice": ("none", "auto", "required", "x", {"type": "function", "function": {"name": "nobody"}}),
    "parallel_tool_calls": (False,),
    "response_format": ({"type": "json_object"}, {"type": "x"}, {"type": "json_schema"}),
    "structured_outputs": (
        5,
        {},
        {"json": {}},
        {"regex": "("},
        {"choice": []},
        {"grammar": "root ::= root"},
        {"json": "x"},
    ),
    "guided_json": ({"type": "object"},),
    "priority": (-5, 5, 2**70),
    "request_id": ("x", "\ud800", "a" * 9000),
    "truncate_prompt_tokens": (1, -1, 0, 10**9),
    "add_special_tokens": (False,),
    "add_generation_prompt": (False,),
    "continue_final_message": (True,),
    "chat_template": ("{{ messages", "{% for x in range(10**9) %}a{% endfor %}", "x"),
    "chat_template_kwargs": ({"tools": 1}, {"x": seeds.HI}, {"enable_thinking": True}),
    "documents": ([{"text": "a"}],),
    "mm_processor_kwargs": ({"x": 1}, {"max_num_tiles": 10**9}),
    "cache_salt": ("a", ""),
    "user": ("\ud800", 5),
    "kv_transfer_params": ({"do_remote_prefill": True}, {}),
    "vllm_xargs": ({"a": 1}, {"a": [1]}),
    "metadata": ({"a": 1},),
    "previous_response_id": ("resp_1", ""),
    "store": (True, False),
    "background": (True,),
    "include": (["x"],),
    "reasoning": ({"effort": "high"}, {}),
    "reasoning_effort": ("low", "x"),
    "text": ({"format": {"type": "json_object"}},),
    "suffix": ("x",),
    "return_token_ids": (True,),
    "return_tokens_as_token_ids": (True,),
    "skip_special_tokens": (False,),
    "spaces_between_special_tokens": (False,),
    "include_stop_str_in_output": (True,),
    "detokenize": (False,),
    "prompt_embeds": ("AAAA", ["x"]),
    "encoding_format": ("base64", "x"),
    "dimensions": (1, -1),
    "system": ("x", [{}]),
    "thinking": ({"type": "enabled", "budget_tokens": 5},),
    "model": ("", "x", "a/b", "demo", 5, None, seeds.VISION),
    "prompt": ("", [], [[]], [-1], [10**9], ["a", [1]], None),
    "session_id": ("x", 5),
    "prompt_cache_key": ("x", 5, "\ud800"),
    "use_beam_search": (True,),
    "length_penalty": (0,),
    "logits_processors": (["os.system"],),
    "echo_": (1,),
    "top_logprobs_": (1,),
    "modalities": (["audio"],),
    "audio": ({"voice": "x", "format": "wav"},),
    "service_tier": ("flex",),
}
KINDS = (
    b"text/plain",
    b"application/json; charset=utf-16",
    b"application/json; charset=nope",
    b"multipart/form-data",
    b"application/x-www-form-urlencoded",
    b"",
    b"APPLICATION/JSON",
    b"application/vnd.api+json",
    None,
)
HEADERS: Sequence[tuple[bytes, bytes]] = (
    (b"x-request-id", b"\xff"),
    (b"x-request-id", b"a" * 5000),
    (b"authorization", b"Bearer \xfe"),
    (b"expect", b"nothing"),
    (b"content-encoding", b"gzip"),
    (b"accept", b"text/html"),
    (b"accept-encoding", b"gzip, br"),
    (b"x-session-id", b"a" * 3000),
    (b"x-batch", b"1"),
    (b"x-sequences", b"-5"),
    (b"x-replica-token", b"x"),
    (b"endpoint-load-metrics-format", b"json"),
    (b"endpoint-load-metrics-format", b"\xff"),
    (b"x-data-parallel-rank", b"99"),
    (b"x-data-parallel-rank", b"x"),
    (b"traceparent", b"00-zz"),
    (b"transfer-encoding", b"chunked"),
    (b"origin", b"http://x"),
    (b"range", b"bytes=5-1"),
    (b"if-none-match", b"*"),
    (b"cookie", b"a=b; " * 200),
    (b"content-type", b"text/plain"),
    (b"anthropic-version", b"1"),
    (b"x-forwarded-for", b"127.0.0.1"),
    (b"forwarded", b"for=\xff"),
    (b"x-http-method-override", b"DELETE"),
)
METHODS = ("GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "POST", "PURGE")
PATHS: Sequence[Callable[[str], str]] = (
    lambda path: path + "/",
    lambda path: path + "//",
    lambda path: "/" + path,
    lambda path: path.upper(),
    lambda path: path + "%00",
    lambda path: path + "%2f..%2fmetrics",
    lambda path: path + "/../../health",
    lambda path: path.replace("/v1", "/v1/v1"),
    lambda path: path + "?limit=%C2%B2&after=%FF",
    lambda path: path + "%ff",
    lambda path: path.rpartition("/")[0] + "/" + "a" * 3000,
    lambda path: path + "?stream=true",
    lambda path: path + ";a=b",
)


def damaged(request: Request, steps: Sequence[int]) -> Request:
    """The request after these steps, each given by its seed."""
    for seed in steps:
        rng = Random(seed)
        kind = rng.random()
        if request.body is not None and kind < 0.72:
            _json_step(request, rng)
        elif request.body is not None and kind < 0.86:
            request.damage.append(_bytes_step(rng))
        elif kind < 0.94:
            _head_step(request, rng)
        elif request.query:
            request.query[rng.choice([*request.query, "x"])] = rng.choice(
                ("%C2%B2", "-1", "", "%00", "9" * 50, "%ff", "a%20b")
            )
        else:
            request.path = rng.choice(PATHS)(request.path)
    return request


def _json_step(request: Request, rng: Random) -> None:
    """Change the value at one place of the body, or add a field to it."""
    if rng.random() < 0.35 and isinstance(request.body, dict):
        name = rng.choice(list(FIELDS))
        request.body[name] = _value(rng) if rng.random() < 0.3 else copy.deepcopy(rng.choice(FIELDS[name]))
        return
    places = list(_places(request.body))
    if not places:
        request.body = _value(rng)
        return
    holder, key = rng.choice(places)
    act = rng.randrange(8)
    if act < 4:
        holder[key] = _value(rng)
    elif act == 4:
        del holder[key]
    elif act == 5:
        holder[key] = [holder[key]] if rng.random() < 0.5 else {rng.choice(list(FIELDS)): holder[key]}
    elif act == 6:
        other, place = rng.choice(places)
        holder[key] = copy.deepcopy(other[place])
    elif isinstance(holder, list):
        holder.extend(copy.deepcopy(holder) * rng.choice((1, 20)))
    else:
        holder[rng.choice(list(FIELDS))] = holder.pop(key)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) below a value, but not far down."""
    waiting = [(value, 0)]
    while waiting:
        holder, depth = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            yield holder, key
            if depth < 12:
                waiting.append((holder[key], depth + 1))


def _value(rng: Random) -> Any:
    return copy.deepcopy(rng.choice(VALUES))


def _bytes_step(rng: Random) -> Callable[[bytes], bytes]:
    at, more = rng.random(), rng.randbytes(rng.choice((1, 4, 60)))

    def cut(data: bytes) -> int:
        return int(at * len(data))

    return rng.choice(
        (
            lambda data: data[: cut(data)],
            lambda data: data[cut(data) :],
            lambda data: data[: cut(data)] + more + data[cut(data) :],
            lambda data: data[: cut(data)] + more + data[cut(data) + len(more) :],
            lambda data: b"\xef\xbb\xbf" + data,
            lambda data: data.decode("utf-8", "replace").encode("utf-16"),
            lambda data: data + b"}",
            lambda data: data + data,
            lambda data: b"[" + data + b"]",
            lambda data: b" " * 100_000 + data,
            lambda data: b"[" * 100_000 + data,
            lambda data: data[:-1] + b', "model": 5}',
            lambda data: b'{"model": "lfm2-demo", ' + data[1:],
            lambda data: data[:-1] + b', "x": ' + b'{"a":' * 3000 + b"1" + b"}" * 3000 + b"}",
            lambda data: data[:-1] + b', "x": NaN, "y": -Infinity}',
            lambda data: data.replace(b'"', b"'"),
            lambda data: data.replace(b": ", b":\x00"),
            lambda data: data.replace(b"e", b"\\ud800"),
            lambda data: b"",
            lambda data: b"null",
            lambda data: b"\xff" * 50,
        )
    )


def _head_step(request: Request, rng: Random) -> None:
    act = rng.random()
    if act < 0.25:
        request.content_type = rng.choice(KINDS)
    elif act < 0.45:
        request.method = rng.choice(METHODS)
    elif act < 0.5:
        request.headers += [(b"x-many-%d" % i, b"y") for i in range(rng.choice((20, 90, 150)))]
    elif act < 0.53:
        request.headers.append((b"x-long", b"a" * rng.choice((4_000, 20_000, 50_000))))
    else:
        request.headers.append(rng.choice(HEADERS))
