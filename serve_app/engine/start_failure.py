"""Why an engine did not start, as one sentence, and whether the next would fail as well."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable

from serve_app.logs.json_lines import unfolded

MOST_CHARACTERS = 400
ELSEWHERE = "See root cause above"
"""vLLM says so where its engine, a process of its own, failed: the cause is in what that process wrote."""

NO_GPU = "it sees no GPU to use: look at CUDA_VISIBLE_DEVICES, and under MPS at the GPUs its daemon was started over"
KNOWN: tuple[tuple[str, bool, str], ...] = (
    (
        r"out of memory|Free memory on device|Error in memory profiling|No available memory for the cache blocks",
        False,
        "its share of the GPU is not free: others hold it, or it is too small",
    ),
    (
        r"Max retries|timed? ?out|[Cc]onnection|Temporary failure|couldn't connect",
        False,
        "something it needs does not answer",
    ),
    (r"No CUDA GPUs|no CUDA-capable device|invalid device ordinal|no NVIDIA driver|CUDA_VISIBLE_DEVICES", True, NO_GPU),
    (r"Failed to infer device type|driver version is insufficient", True, NO_GPU),
    (
        r"To serve at least one request with the model's max seq len",
        True,
        "its KV cache holds less than one full context: lower engine_args.max_model_len, or give it more memory",
    ),
    (
        r"rchitectures? .*(?:not supported|failed to be inspected)|not recognize this arch|no vLLM implementation",
        True,
        "vLLM does not know this model's architecture",
    ),
    (
        r"not a valid model identifier|Repository Not Found|gated repo|no file named|no folder|has no (config|weights)",
        True,
        "the weights are not where `source` says",
    ),
    (r"vLLM is (?:its CPU build|installed for GPUs)", True, "this vLLM is built for other hardware"),
)
"""By what a text says: whether it stays so, and what it comes to."""
LASTING = (
    "ValueError",
    "TypeError",
    "ImportError",
    "ModuleNotFoundError",
    "NotImplementedError",
    "FileNotFoundError",
    "ValidationError",
)
"""Exceptions that the same configuration raises again on the same node."""
_EXCEPTION = re.compile(r"(?:^|[\s\]])(?P<text>(?:\w+\.)*(?P<kind>\w*(?:Error|Exception)): .+)$")


class OwnOutput:
    """What this process, and those it starts, write from now on, where that goes to files, as in Ray's workers."""

    def __init__(self) -> None:
        self._from: dict[str, int] = {}
        for descriptor in (1, 2):
            try:
                found = os.fstat(descriptor)
                if stat.S_ISREG(found.st_mode):
                    self._from[os.readlink(f"/proc/self/fd/{descriptor}")] = found.st_size
            except OSError:
                continue

    def lines(self) -> list[str]:
        found: list[str] = []
        for path, start in self._from.items():
            try:
                with open(path, "rb") as file:
                    file.seek(start)
                    for line in file.read().decode(errors="replace").splitlines():
                        found += unfolded(line)
            except OSError:
                continue
        return found


def why(error: BaseException, written: Iterable[str] = ()) -> tuple[str, bool]:
    """The cause in one sentence, and whether it is permanent. `written` is what was logged since the start began."""
    cause = f"{type(error).__name__}: {error}"
    if ELSEWHERE in cause:
        causes = [match["text"] for line in written if (match := _EXCEPTION.search(line)) and ELSEWHERE not in line]
        cause = causes[-1] if causes else cause
    kind = cause.partition(":")[0].rpartition(".")[2]
    text = cause.partition(": ")[2].strip()
    said = " ".join((text.splitlines() or [kind])[:3])[:MOST_CHARACTERS]
    for pattern, permanent, meaning in KNOWN:
        if re.search(pattern, cause):
            return f"{meaning} ({said})", permanent
    return f"{kind}: {said}", kind in LASTING
