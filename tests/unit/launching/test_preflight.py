"""What stands in the way of a start is one sentence before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serve_app.config.schema import ServiceConfig
from serve_app.launching import preflight
from serve_app.launching.preflight import folder_for_launches, look
from serve_app.launching.settings import CannotStart
from serve_app.planning import gpus
from tests.support.nvidia_smi import H100S, hide, put

A, B, C = (one.uuid for one in H100S)


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "MEMORY_RETURNS_S", 0.0)


def services(**entry: Any) -> list[ServiceConfig]:
    return [ServiceConfig.parse({"models": [{"id": "some/model", "engine_args": {"max_model_len": 2048}} | entry]})]


@pytest.mark.parametrize(
    ("restriction", "named"),
    [(None, None), ("1", B), ("1,0", f"{B},{A}"), (B, B), (B[:9], B), (f"{B[:9]},2", f"{B},{C}"), ("MIG-7", "MIG-7")],
)
def test_under_mps_all_processes_name_gpus_by_uuid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restriction: str | None, named: str | None
) -> None:
    put(tmp_path, monkeypatch)
    environment = {} if restriction is None else {gpus.VISIBLE: restriction}
    assert look(services(), True, environment).variables == ({} if named is None else {gpus.VISIBLE: named})


@pytest.mark.parametrize(
    ("restriction", "entry", "reason"),
    [
        ("7", {}, "names '7'.*none of this machine's: 0 "),
        ("1", {"replicas": 2}, "need 2 GPUs, and there is 1 here .CUDA_VISIBLE_DEVICES=1 leaves 1 of 3"),
        ("", {}, "need 1 GPU, and there is none here.*`gpus: 0`"),
        (None, {"gpus": 4}, "need 4 GPUs, and there are 3 here"),
        ("0", {}, "other processes hold 68.4 of 79.6 GiB of GPU 0, and a replica takes 73.3: end them"),
        (None, {"gpus": 1, "replicas": 3}, "other processes hold 68.4"),
    ],
)
def test_too_few_gpus_or_full_ones_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restriction: str | None, entry: dict[str, Any], reason: str
) -> None:
    put(tmp_path, monkeypatch)
    environment = {} if restriction is None else {gpus.VISIBLE: restriction}
    with pytest.raises(CannotStart, match=reason):
        look(services(**entry), False, environment)


def test_a_full_gpu_beside_free_ones_is_none_of_our_business(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, monkeypatch)
    assert look(services(replicas=2), False, {}).variables == {}
    assert look(services(gpus=0.1), False, {gpus.VISIBLE: "0"}).variables == {gpus.VISIBLE: "0"}


def test_a_driver_that_hangs_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(gpus, "TIMEOUT_S", 0.3)
    with pytest.raises(CannotStart, match="driver hangs"):
        look(services(), False, {})
    assert look(services(engine="simulated"), False, {}).variables == {}, "nobody asks for a GPU"


def test_without_nvidia_smi_only_mps_over_some_gpus_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(tmp_path, monkeypatch)
    monkeypatch.setattr(gpus, "DRIVERS", (tmp_path,))
    assert any("no nvidia-smi" in one for one in look(services(), False, {gpus.VISIBLE: "1"}).notices)
    with pytest.raises(CannotStart, match="must become UUIDs"):
        look(services(), True, {gpus.VISIBLE: "1"})


def test_without_haproxy_nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "haproxy_binary", lambda: None)
    with pytest.raises(CannotStart, match="no HAProxy: install"):
        look(services(engine="simulated"), False, {})
    look(services(engine="simulated"), False, {"RAY_SERVE_ENABLE_HA_PROXY": "0"})


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, monkeypatch)
    args = {"models": [{"id": "some/model"}], "cache_directory": "/proc/cache"}
    [notice] = [one for one in look([ServiceConfig.parse(args)], False, {}).notices if "cache" in one]
    assert notice.startswith("nothing can be written to /proc/cache/") and "make /proc writable" in notice


def test_a_folder_without_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_for_launches(tmp_path)
    monkeypatch.setattr(preflight, "LEAST_DISK_GIB", 1e9)
    with pytest.raises(CannotStart, match="make room there"):
        folder_for_launches(tmp_path)
    with pytest.raises(CannotStart, match="make it writable"):
        folder_for_launches(Path("/proc"))


def test_little_shared_memory_and_few_files_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "LEAST_SHARED_GIB", 1e9)
    monkeypatch.setattr(preflight.open_files, "hard_limit", lambda: 4096)
    notices = look(services(engine="simulated"), False, {}).notices
    assert [any(word in one for one in notices) for word in ("--shm-size", "ulimit")] == [True, True]
