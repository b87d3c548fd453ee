"""Why an engine did not start, and whether it ever will."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.engine.start_failure import why

ELSEWHERE = RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {}")


@pytest.mark.parametrize(
    ("error", "permanent", "said"),
    [
        (RuntimeError("No CUDA GPUs are available"), True, "sees no GPU"),
        (ValueError("CUDA_VISIBLE_DEVICES names '7', which is none of this machine's: 0"), True, "sees no GPU"),
        (FileNotFoundError("there is no folder /models/x on this machine"), True, "not where `source` says"),
        (OSError("x is not a local folder and is not a valid model identifier listed on the hub"), True, "weights"),
        (RuntimeError("m asks for a GPU, but vLLM is its CPU build: set `gpus: 0`"), True, "other hardware"),
        (ValueError("Model architectures ['Foo'] are not supported for now."), True, "does not know this model's"),
        (
            ValueError("To serve at least one request with the model's max seq len (8192), 1 GiB is"),
            True,
            "max_model_len",
        ),
        (TypeError("__init__() got an unexpected keyword argument 'foo'"), True, "TypeError: __init__"),
        (ImportError("libcudart.so.13: cannot open shared object file"), True, "libcudart"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), False, "others hold it"),
        (ValueError("Free memory on device cuda:0 (1.2/79.6 GiB) on startup is less than desired"), False, "others"),
        (OSError("We couldn't connect to 'https://hub' to load this file"), False, "does not answer"),
        (RuntimeError("something odd"), False, "RuntimeError: something odd"),
        (RuntimeError(""), False, "RuntimeError"),
    ],
)
def test_a_cause_is_one_sentence(error: Exception, permanent: bool, said: str) -> None:
    sentence, lasting = why(error)
    assert lasting is permanent
    assert said in sentence and "\n" not in sentence


def test_the_cause_in_an_engines_own_process_is_found_in_what_it_wrote() -> None:
    written = [
        "(EngineCore pid=7) ERROR 11-26 15:00:00 [core.py:1510] EngineCore failed to start.",
        "(EngineCore pid=7) ERROR 11-26 15:00:00 [core.py:1510] Traceback (most recent call last):",
        "(EngineCore pid=7) ERROR 11-26 15:00:00 [core.py:1510] RuntimeError: No CUDA GPUs are available",
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
    ]
    assert why(ELSEWHERE, written)[1]
    assert "No CUDA GPUs" in why(ELSEWHERE, written)[0]
    assert not why(ELSEWHERE, [])[1]


def test_what_a_process_and_its_children_write_from_now_on_is_read(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys; print('before', flush=True)\n"
        "from serve_app.engine.start_failure import OwnOutput\n"
        "own = OwnOutput()\n"
        "subprocess.run([sys.executable, '-c', \"raise ValueError('from a child')\"])\n"
        "found = own.lines(); assert 'before' not in found, found\n"
        "assert any('ValueError: from a child' in one for one in found), found"
    )
    with (tmp_path / "out").open("w") as file:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=file, stderr=file, env=dict(os.environ), check=False
        )
    assert done.returncode == 0, (tmp_path / "out").read_text()
