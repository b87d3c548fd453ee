"""API keys: what an entry of the configuration stands for, and which keys it lets in."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from serve_app.config.api_keys import WrittenOut, digest_of, digests, loggable

HEX = hashlib.sha256(b"sk-1").hexdigest()


def test_a_key_written_out_becomes_its_digest_once() -> None:
    entry = loggable("sk-1")
    assert entry == f"sha256:{HEX}" == loggable(entry) == loggable(f"sha256:{HEX.upper()}")
    assert isinstance(loggable(entry), WrittenOut) and not isinstance(loggable(f"sha256:{HEX}"), WrittenOut)


def test_a_file_holds_a_key_or_a_digest_a_line(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"one\n\n  two \nsha256:{HEX}\n")
    assert digests(f"file:{tmp_path / 'keys'}") == [digest_of(key) for key in ("one", "two", "sk-1")]


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "No such file"), (b"\n \n", "holds no key"), (b"\xff", "UTF-8"), (b"a b", "white space")],
)
def test_a_file_without_a_key_is_an_error(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=told):
        digests(f"file:{path}")


@pytest.mark.parametrize("wrong", ["", "  ", "two words", "schlüssel", "sk-1\n", "sha256:12", "env:", "file: "])
def test_what_no_client_can_send_is_refused_and_not_repeated(wrong: str) -> None:
    with pytest.raises(ValueError) as caught:
        digests(wrong)
    assert "two" not in str(caught.value) and "sch" not in str(caught.value) and "sk-1" not in str(caught.value)


def test_a_digest_is_what_sha256sum_prints() -> None:
    assert digest_of("sk-1") == f"sha256:{HEX}"
