"""What of a client's headers reaches a replica."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serve_app.config.keys import KeyConfig
from serve_app.http.errors import ApiError
from serve_app.routing.head import RequestHead, read_head
from serve_app.routing.headers import for_replica

JSON = (b"content-type", b"application/json")
MARK = (b"x-batch", b"1")


def sent(*headers: tuple[bytes, bytes], **body: Any) -> list[tuple[bytes, bytes]]:
    given = [JSON, *headers]
    return for_replica(given, read_head({"headers": given}, json.dumps({"model": "m", **body}).encode()))


@pytest.mark.parametrize(
    "header",
    [
        (b"accept", b"text/event-stream"),
        (b"x-request-id", b"mine"),
        (b"x-session-id", b"s"),
        (b"traceparent", b"00-1-2-01"),
        (b"endpoint-load-metrics-format", b"TEXT"),
        (b"x-vllm-priority", b"-5"),
    ],
    ids=lambda header: header[0].decode(),
)
def test_what_vllm_reads_goes_there(header: tuple[bytes, bytes]) -> None:
    assert sent(header) == [JSON, header]


@pytest.mark.parametrize(
    "name",
    [
        b"x-batch",
        b"x-sequences",
        b"x-replica-token",
        b"x-replica-refused",
        b"x-key-name",
        b"x-max-output-tokens",
        b"x-answer-id",
        b"x-data-parallel-rank",
        b"authorization",
        b"x-api-key",
    ],
)
def test_what_is_not_a_clients_to_say_does_not(name: bytes) -> None:
    assert sent((name, b"1")) == [JSON]


@pytest.mark.parametrize("priority", [1, 10, 2**63 - 1, "10", 2.5])
def test_who_lowers_its_priority_is_batch_work(priority: Any) -> None:
    assert MARK in sent(priority=priority)
    header = (b"x-vllm-priority", str(priority).encode())
    assert sent(header) == [JSON, header, MARK]


@pytest.mark.parametrize("priority", [0, -1, -(2**63), None, "", "low", [10], {"a": 1}, True, "NaN"])
def test_who_does_not_is_none(priority: Any) -> None:
    assert sent((b"x-batch", b"1"), priority=priority) == [JSON]


def test_the_id_of_the_body_comes_first() -> None:
    told = sent((b"x-request-id", b"haproxy's"), request_id="mine")
    assert told == [JSON, (b"x-answer-id", b"haproxy's")], "for the service's own logs"


def test_an_id_has_a_length_that_can_be_repeated() -> None:
    assert sent((b"x-request-id", b"a" * 256))
    with pytest.raises(ApiError) as refused:
        sent((b"x-request-id", b"a" * 257))
    assert (refused.value.status, refused.value.param) == (400, "X-Request-Id")


def test_a_named_key_tells_the_replica_its_name() -> None:
    owner = KeyConfig(name="a", key="k", priority="batch")
    kept = for_replica([(b"x-key-name", b"other")], RequestHead(), owner)
    assert kept == [(b"x-key-name", b"a"), (b"x-batch", b"1")]
