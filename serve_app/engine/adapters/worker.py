"""Reads an adapter's files beside the steps of an engine, in its worker process (`worker_extension_cls`), vLLM 0.32.

vLLM reads them in `add_lora`, between two steps: for that long every stream of the replica stands still. Here a thread
reads them before, and `add_lora` finds the tensors in memory. What remains between two steps is to pack them and to
copy them to where the kernels read them.

The path in a request for an adapter may have the version of its files behind VERSION, because vLLM tells cached
prefixes of adapters apart by their names and paths.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from vllm.lora.request import LoRARequest
from vllm.lora.worker_manager import WorkerLoRAManager

from serve_app.engine.adapters import VERSION

_reader = ThreadPoolExecutor(1, "adapters")
_read: dict[int, Future[Any]] = {}
"""Adapters by vLLM's numbers of them."""


class ReadBeside:
    """Methods that vLLM's worker gets, for `collective_rpc`."""

    model_runner: Any

    def read_adapter(self, name: str, number: int, path: str) -> None:
        """Begin to read the adapter that is to have this number."""
        request = LoRARequest(name, number, path)
        _read[number] = _reader.submit(_from_files, self.model_runner.lora_manager, request)

    def has_read_adapter(self, number: int) -> bool:
        """Whether that has ended, well or not."""
        return _read[number].done()


def _taking_what_was_read(load: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load)
    def wrapped(manager: WorkerLoRAManager, request: LoRARequest) -> Any:
        read = _read.pop(request.lora_int_id, None)
        return _from_files(manager, request) if read is None else read.result()

    return wrapped


def _from_files(manager: WorkerLoRAManager, request: LoRARequest) -> Any:
    path = request.lora_path.rpartition(VERSION)[0] or request.lora_path
    return _load(manager, LoRARequest(request.lora_name, request.lora_int_id, path))


_load = WorkerLoRAManager._load_adapter
WorkerLoRAManager._load_adapter = _taking_what_was_read(_load)  # type: ignore[method-assign]
