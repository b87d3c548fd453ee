from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from serve_app.batch import lines
from serve_app.batch.lines import BadLine, InputError, Raw, expand, judge, read
from serve_app.batch.scan import scan


def request(id: str = "a", **changes: object) -> dict[str, object]:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    return {"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body} | changes


def raw(line: object) -> Raw:
    data = line if isinstance(line, bytes) else json.dumps(line).encode()
    return Raw(0, Path("in.jsonl"), 1, data)


def judged(line: object, priority: int = 0) -> dict[str, object]:
    return json.loads(bytes(judge(raw(line), {"m"}, priority).body))


def write(path: Path, *requests: object) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in requests))
    return path


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
    ],
)
def test_what_cannot_be_sent_says_why(line: object, code: str, reason: str) -> None:
    with pytest.raises(BadLine) as refused:
        judge(raw(line), {"m"}, 0)
    assert refused.value.code == code and reason in str(refused.value)


def test_a_bad_line_keeps_its_custom_id_where_it_has_one() -> None:
    with pytest.raises(BadLine) as refused:
        judge(raw(request("mine", url="/v1/audio")), None, 0)
    assert refused.value.custom_id == "mine"


def test_the_batchs_priority_goes_into_a_body_that_has_none() -> None:
    assert judged(request(body={"model": "m"}), 10) == {"model": "m", "priority": 10}
    assert judged(request(body={"model": "m", "priority": -1}), 10) == {"model": "m", "priority": -1}
    assert judged(request(body={"model": "m"}), 0) == {"model": "m"}
    assert (
        judged(b'{"custom_id":"a","method":"POST","url":"/v1/completions","body": {"model":"m"} }', 3)["priority"] == 3
    )


def test_lines_of_plain_and_packed_files_are_numbered_through(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("one\n\n  \ntwo")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b"three\n"))
    files = expand([str(tmp_path / "*.jsonl*"), str(tmp_path / "a.jsonl")])
    assert [(one.index, one.file.name, one.number, one.data) for one in read(files)] == [
        (0, "a.jsonl", 1, b"one\n"),
        (1, "a.jsonl", 4, b"two"),
        (2, "b.jsonl.gz", 1, b"three\n"),
    ]


def test_an_endless_line_is_skipped_without_being_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MOST_LINE_BYTES", 10)
    (tmp_path / "in").write_bytes(b"x" * 35 + b"\nshort\n")
    assert [(one.number, one.data) for one in read([tmp_path / "in"])] == [(1, None), (2, b"short\n")]
    with pytest.raises(BadLine, match="over"):
        judge(Raw(0, tmp_path, 1, None), None, 0)


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl: there is no such file"):
        expand([str(tmp_path / "none.jsonl")])
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"x\n" * 1000)[:-20])
    with pytest.raises(InputError, match=r"cut\.gz"):
        scan([tmp_path / "cut.gz"])


def test_a_custom_id_twice_is_refused_with_both_places(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", request("x"), request("y"))
    second = write(tmp_path / "b.jsonl", request("z"), request("y"))
    with pytest.raises(InputError, match=r"'y': .*a\.jsonl:2 and .*b\.jsonl:2"):
        scan([first, second])


def test_ids_that_share_a_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.batch.scan._hash", lambda name: b"12345678")
    assert scan([write(tmp_path / "in", request("x"), request("y"))]).lines == 2


def test_the_fingerprint_is_of_the_contents(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.jsonl", request("x"), request("y"))
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert scan([plain]) == scan([packed])
    assert scan([plain]).models == {"m"}
    assert scan([write(tmp_path / "c.jsonl", request("x"), request("Y"))]).fingerprint != scan([plain]).fingerprint
