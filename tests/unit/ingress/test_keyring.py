"""Whose key is whose, and keys in files that change."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from serve_app.config.api_keys import digest_of
from serve_app.config.keys import KeyConfig, unnamed
from serve_app.ingress import keyring
from serve_app.ingress.keyring import Keyring

HEX = hashlib.sha256(b"sk-1").hexdigest()


def named(name: str, key: str) -> KeyConfig:
    return KeyConfig(name=name, key=key)


def test_a_key_is_known_by_its_digest() -> None:
    keys = Keyring([f"sha256:{HEX}"])
    assert keys and keys.owner("sk-1") == unnamed(f"sha256:{HEX}")
    assert not any(keys.owner(other) for other in ("", "sk-2", HEX, f"sha256:{HEX}", "sk-1 "))


def test_a_named_key_is_its_owners() -> None:
    first, second = named("a", "one"), KeyConfig(name="b", key_sha256=HEX.upper())
    keys = Keyring(["all"], [first, second])
    assert (keys.owner("one"), keys.owner("sk-1"), keys.owner("all")) == (first, second, unnamed(digest_of("all")))


def test_keys_without_a_name_are_clients_of_their_own() -> None:
    keys = Keyring(["one", "two"], [named("a", "three")])
    clients = [owner.client for key in ("one", "two", "three") if (owner := keys.owner(key))]
    assert clients == [*(digest_of(key).removeprefix("sha256:") for key in ("one", "two")), "a"]


@pytest.mark.parametrize("empty", [None, "", " , "])
def test_an_empty_variable_is_an_error_at_start(monkeypatch: pytest.MonkeyPatch, empty: str | None) -> None:
    monkeypatch.delenv("KEYS", raising=False)
    if empty is not None:
        monkeypatch.setenv("KEYS", empty)
    with pytest.raises(ValueError, match=r"ingress\.api_keys: the environment variable KEYS is empty"):
        Keyring(["one", "env:KEYS"])
    with pytest.raises(ValueError, match=r"ingress\.keys, a: the environment variable KEYS is empty"):
        Keyring([], [named("a", "env:KEYS")])


def test_one_key_of_two_owners_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("sk-1\nsk-2\n")
    with pytest.raises(ValueError, match=r"ingress\.keys, b: .* holds a key that another entry has") as caught:
        Keyring([], [named("a", "sk-2"), named("b", f"file:{tmp_path / 'keys'}")])
    assert "sk-2" not in str(caught.value)


def test_a_file_is_read_again_so_that_keys_rotate(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("old\n")
    owner = named("a", f"file:{path}")
    keys = Keyring([], [owner])
    path.write_text("old\nnew\n")
    keys.look()
    assert keys.owner("old") is keys.owner("new") is owner
    path.write_text("new\n")
    keys.look()
    assert keys.owner("old") is None and keys.owner("new") is owner


def test_a_file_that_cannot_be_used_any_more_opens_nothing_and_closes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(keyring.logger, "warning", lambda text, *parts: told.append(text % parts))
    path = tmp_path / "keys"
    path.write_text("old\n")
    keys = Keyring(["other"], [named("a", f"file:{path}")])
    for content in ("", "two words\n", "other\n"):
        path.write_text(content)
        keys.look()
        assert keys.owner("old") and not keys.owner("") and keys.owner("other") == unnamed(digest_of("other"))
    os.unlink(path)
    keys.look()
    assert keys.owner("old")
    assert len(told) == 4 and "two words" not in str(told)
