"""Where compiled code is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.planning import compile_cache


def test_every_library_gets_a_folder_below_the_one_that_was_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Importing parts of torch sets one of them, in whatever test ran before.
    for name in compile_cache.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    found = compile_cache.environment(str(tmp_path))
    root = compile_cache.folder(str(tmp_path))
    assert set(found) == set(compile_cache.VARIABLES)
    assert root.parent == tmp_path and root.name.startswith("vllm-")
    assert len({Path(place) for place in found.values()}) == len(found)
    assert all(Path(place).parent == root for place in found.values())


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", "/elsewhere")
    assert compile_cache.environment(str(tmp_path))["TRITON_CACHE_DIR"] == "/elsewhere"


def test_unless_chosen_it_is_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert compile_cache.folder(None).parent == Path("/caches/serve-app")
    monkeypatch.setenv("HOME", "/home/one")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert compile_cache.folder(None).parent == Path("/home/one/.cache/serve-app")
    assert compile_cache.folder("~/kept").parent == Path("/home/one/kept")
