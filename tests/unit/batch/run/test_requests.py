"""A line as a request, or why it is none."""

from __future__ import annotations

import json

import pytest

from serve_app.batch.run.requests import BadLine, custom_id, names, parse


def request(id: str = "a", **changes: object) -> dict[str, object]:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    return {"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body} | changes


def raw(line: object) -> bytes:
    return line if isinstance(line, bytes) else json.dumps(line).encode()


def judged(line: object, priority: int = 0) -> dict[str, object]:
    return json.loads(bytes(parse(raw(line), {"m"}, priority).body))


@pytest.mark.parametrize(
    ("line", "code", "reason"),
    [
        (b'{"custom_id": "a", ', "invalid_json", "truncated"),
        (b"\xff\xfe", "invalid_json", ""),
        (b"[]", "invalid_request", "object"),
        (request(id=7), "invalid_request", "custom_id"),
        (request(id=""), "invalid_request", "empty"),
        (request(method="GET"), "invalid_request", "method"),
        (request(url="/v1/audio"), "invalid_url", "/v1/embeddings"),
        (request(body="x"), "invalid_request", "body"),
        (request(body={"messages": []}), "invalid_request", "model"),
        (request(body={"model": "other"}), "model_not_found", "'other'"),
        (request(body={"model": "m", "stream": True}), "invalid_request", "stream"),
        (request(body={"model": "m", "priority": "high"}), "invalid_request", "priority"),
        (request(body={"model": "m", "priority": -1}), "invalid_request", "0 or more"),
        (request(body=[{"model": "m"}]), "invalid_request", "array"),
        (request(body=None), "invalid_request", "null"),
        (b'{"custom_id": "a", "x": ' + b"[" * 2000, "invalid_json", "nested too deeply"),
        (
            b'{"custom_id":"a","method":"POST","url":"/v1/completions","body":{"x":' + b"[" * 2000,
            "invalid_json",
            "nested",
        ),
        (b'{"custom_id": "a\\ud800"}', "invalid_json", ""),
        (b'{"custom_id": "a\x00"}', "invalid_json", "invalid character"),
        (b'{"custom_id": "\xff"}', "invalid_json", "utf-8"),
        (b'{"custom_id": ' + b"9" * 5000 + b"}", "invalid_request", "range"),
        (b"\x00" * 100, "invalid_json", ""),
    ],
)
def test_what_cannot_be_sent_says_why(line: object, code: str, reason: str) -> None:
    with pytest.raises(BadLine) as refused:
        parse(raw(line), {"m"}, 0)
    assert refused.value.code == code and reason in str(refused.value)


def test_a_bad_line_keeps_its_custom_id_where_it_has_one() -> None:
    with pytest.raises(BadLine) as refused:
        parse(raw(request("mine", url="/v1/audio")), None, 0)
    assert refused.value.custom_id == "mine"


@pytest.mark.parametrize("rest", [b'"body": {', b'"x": ' + b"[" * 2000 + b"]" * 2000 + b"}", b'"x": \xff}'])
def test_a_line_that_cannot_be_read_to_its_end_keeps_it_too(rest: bytes) -> None:
    line = raw(b'{"custom_id": "a\\"b", ' + rest)
    assert custom_id(line) == 'a"b' and names(line) == ('a"b', None)


def test_a_name_of_any_length_is_not_repeated_whole() -> None:
    long = "x" * 1_000_000
    for line in (request(url=long), request(body={"model": long})):
        with pytest.raises(BadLine) as refused:
            parse(raw(line), {"m"}, 0)
        assert len(str(refused.value)) < 1000


def test_of_a_key_that_comes_twice_the_last_counts() -> None:
    line = b'{"custom_id":"a","custom_id":"b","method":"POST","url":"/v1/completions","body":{"model":"x","model":"m"}}'
    assert parse(raw(line), {"m"}, 0).custom_id == "b" and names(raw(line)) == ("b", "m")


def test_the_batchs_priority_goes_into_a_body_that_has_none() -> None:
    assert judged(request(body={"model": "m"}), 10) == {"model": "m", "priority": 10}
    assert judged(request(body={"model": "m", "priority": 1}), 10) == {"model": "m", "priority": 1}
    assert judged(request(body={"model": "m"}), 0) == {"model": "m"}
    assert (
        judged(b'{"custom_id":"a","method":"POST","url":"/v1/completions","body": {"model":"m"} }', 3)["priority"] == 3
    )


def test_a_line_that_was_too_long_to_be_held_says_so() -> None:
    with pytest.raises(BadLine, match="over"):
        parse(None, None, 0)
