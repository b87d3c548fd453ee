from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest

from serve_app.batch.run import input
from serve_app.batch.run.input import InputError, expand, read, scan
from tests.unit.batch.run.test_requests import request


def write(path: Path, *requests: object) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in requests))
    return path


def test_a_name_of_any_length_is_not_repeated_whole(tmp_path: Path) -> None:
    long = "x" * 1_000_000
    with pytest.raises(InputError) as twice:
        scan([write(tmp_path / "in.jsonl", request(long), request(long))])
    assert len(str(twice.value)) < 1000
    assert scan([write(tmp_path / "in.jsonl", request(body={"model": long}))]).models == frozenset()


def test_lines_of_plain_and_packed_files_are_numbered_through(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("one\n\n  \ntwo")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b"three\n"))
    files = expand([str(tmp_path / "*.jsonl*"), str(tmp_path / "a.jsonl")])
    assert [(one.index, one.file.name, one.number, one.data) for one in read(files)] == [
        (0, "a.jsonl", 1, b"one\n"),
        (1, "a.jsonl", 4, b"two"),
        (2, "b.jsonl.gz", 1, b"three\n"),
    ]


@pytest.mark.parametrize(
    ("content", "read_as"),
    [
        (b"\xef\xbb\xbfone\ntwo\n", [b"one\n", b"two\n"]),
        (b"\xef\xbb\xbf\r\none\r\ntwo", [b"one\r\n", b"two"]),
        (b"\xef\xbb\xbf", []),
        (b"\n \r\n\t", []),
        (b"", []),
    ],
)
def test_marks_and_line_ends_are_not_part_of_a_line(tmp_path: Path, content: bytes, read_as: list[bytes]) -> None:
    (tmp_path / "in.jsonl").write_bytes(content)
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(content))
    for name in ("in.jsonl", "in.jsonl.gz"):
        assert [one.data for one in read([tmp_path / name])] == read_as
    if not read_as:
        with pytest.raises(InputError, match="no lines") as refused:
            scan([tmp_path / "in.jsonl"])
        assert refused.value.code == "empty_file"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("in.jsonl", "{}\n".encode("utf-16"), "UTF-16"),
        ("in.jsonl", b"\xfe\xff" + "{}\n".encode("utf-16-be"), "UTF-16"),
        ("in.jsonl", gzip.compress(b"{}\n", mtime=0), "packed with gzip"),
        ("in.jsonl.gz", b"{}\n", "Not a gzipped file"),
        ("in.jsonl.gz", gzip.compress(b"{}\n" * 1000, mtime=0)[:-20], "end-of-stream"),
        ("in.jsonl.gz", gzip.compress(b"", mtime=0)[:10] + b"\x07" * 30, "Error -3"),
    ],
)
def test_what_is_no_text_is_refused_as_a_whole(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=reason) as refused:
        scan([tmp_path / name])
    assert str(refused.value).startswith(str(tmp_path)) and str(tmp_path) not in refused.value.reason


def test_a_line_packed_to_a_thousandth_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input, "MOST_LINE_BYTES", 2**20)
    (tmp_path / "in.gz").write_bytes(gzip.compress(bytes(16 * 2**20) + b"\nshort\n"))
    tracemalloc.start()
    assert [one.data for one in read([tmp_path / "in.gz"])] == [None, b"short\n"]
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()


def test_an_endless_line_is_skipped_without_being_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input, "MOST_LINE_BYTES", 10)
    (tmp_path / "in").write_bytes(b"x" * 35 + b"\nshort\n")
    assert [(one.number, one.data) for one in read([tmp_path / "in"])] == [(1, None), (2, b"short\n")]


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


def test_one_file_is_named_by_its_lines_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        scan([write(tmp_path / "a.jsonl", request("x"), request("x"))])
    assert "'x': line 1 and line 2" in str(refused.value) and str(tmp_path) not in str(refused.value)


def test_ids_that_share_a_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.batch.run.input._hash", lambda name: b"12345678")
    assert scan([write(tmp_path / "in", request("x"), request("y"))]).lines == 2


def test_the_fingerprint_is_of_the_contents(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.jsonl", request("x"), request("y"))
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert scan([plain]) == scan([packed])
    assert scan([plain]).models == {"m"}
    assert scan([write(tmp_path / "c.jsonl", request("x"), request("Y"))]).fingerprint != scan([plain]).fingerprint
