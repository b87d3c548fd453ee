"""GPUs as nvidia-smi tells of them, and which of them CUDA_VISIBLE_DEVICES leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.planning import gpus
from serve_app.planning.gpus import Gpu, GpusUnknown, chosen, parse, seen, unambiguous
from tests.support.nvidia_smi import H100S, hide, put

A, B, C = (one.uuid for one in H100S)


def test_what_nvidia_smi_says_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, monkeypatch)
    assert gpus.installed() == H100S
    assert gpus.installed()[1].free_gib == pytest.approx(78.6, abs=0.1)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            "echo 'NVIDIA-SMI has failed because it could not communicate with the driver'; exit 9",
            "ended with 9.*driver",
        ),
        ("echo nonsense", "says 'nonsense'"),
        ("exec sleep 60", "driver hangs"),
    ],
)
def test_one_that_cannot_tell_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    put(tmp_path, monkeypatch, script)
    monkeypatch.setattr(gpus, "TIMEOUT_S", 0.5)
    with pytest.raises(GpusUnknown, match=reason):
        gpus.installed()


def test_without_a_driver_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(tmp_path, monkeypatch)
    monkeypatch.setattr(gpus, "DRIVERS", (tmp_path / "nvidiactl",))
    assert gpus.installed() == ()
    (tmp_path / "nvidiactl").touch()
    with pytest.raises(gpus.NobodyToAsk, match="PATH"):
        gpus.installed()
    put(tmp_path, monkeypatch, "echo 'No devices were found'; exit 6")
    assert gpus.installed() == ()


def test_memory_that_the_driver_does_not_tell_is_none() -> None:
    assert parse("0, GPU-1, [N/A], [N/A]\n") == (Gpu(0, "GPU-1", 0.0, 0.0),)


@pytest.mark.parametrize(
    ("restriction", "left"),
    [
        ("1", [B]),
        ("1,0", [B, A]),
        (" 2 , 0 ", [C, A]),
        (B, [B]),
        (f"{C},0", [C, A]),
        (B[:9], [B]),
        ("MIG-41b0", ["MIG-41b0"]),
        ("MIG-GPU-1/3/0,1", ["MIG-GPU-1/3/0", B]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1,-1,0", [B]),
    ],
)
def test_every_way_to_name_gpus_is_a_list_of_uuids(restriction: str, left: list[str]) -> None:
    assert chosen(restriction, H100S) == left
    assert unambiguous(restriction, H100S, under_mps=True) == ",".join(left)


@pytest.mark.parametrize("restriction", ["7", "0,7", "GPU-dead", "GPU-", "0,0", f"1,{B}", "one"])
def test_what_names_no_gpu_or_several_is_refused(restriction: str) -> None:
    with pytest.raises(ValueError, match=gpus.VISIBLE):
        chosen(restriction, H100S)


def test_without_mps_plain_numbers_stay_and_beginnings_of_uuids_are_written_out() -> None:
    assert unambiguous("1,0", H100S, under_mps=False) == "1,0"
    assert unambiguous("-1", H100S, under_mps=False) == "-1"
    assert unambiguous(B[:9], H100S, under_mps=False) == B


def test_what_is_seen_of_the_machine() -> None:
    assert seen(H100S, None) == list(H100S)
    assert seen(H100S, "2,1") == [H100S[2], H100S[1]]
    assert seen(H100S, "") == seen(H100S, "MIG-1") == []


def test_a_client_of_mps_is_told_by_the_daemons_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "PIPES", tmp_path / "usual")
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    assert not gpus.under_mps()
    (tmp_path / "usual").mkdir()
    (tmp_path / "usual" / "control").touch()
    assert gpus.under_mps()
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path / "own"))
    assert not gpus.under_mps()
