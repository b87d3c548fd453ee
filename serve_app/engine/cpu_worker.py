"""Faults of vLLM 0.32's CPU build, mended in its worker process (`worker_extension_cls` imports this there).

When a prompt is prefilled in several steps, the runner samples after each and takes the draw back from a seeded
request's generator by its offset. CPU generators have none: the engine process died, of one client's `seed`.
Here such a generator is put aside while a draw that will be discarded is made, which is the same without rewinding.

In a batch where some have a LoRA adapter, the others' tokens have the index -1, which the CPU kernels read as the last
slot: they got the answers of the adapter in it. Here what goes through an adapter is nothing for them. A batch of none
but such is not taken through the kernels at all: that costs it a third of a step of the demo's text model.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from vllm.lora.ops.torch_ops import lora_ops
from vllm.lora.punica_wrapper import punica_cpu
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from serve_app.engine.adapters.worker import ReadBeside


class CpuWorker(ReadBeside):
    """Named in the engine arguments."""


def _keep_generators_of_discarded(sample_tokens: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(sample_tokens)
    def wrapped(runner: Any, grammar_output: Any) -> Any:
        generators = runner.input_batch.generators
        discarded = runner.discard_request_mask.np[: runner.input_batch.num_reqs].nonzero()[0].tolist()
        aside = {row: generators.pop(row) for row in discarded if row in generators}
        try:
            return sample_tokens(runner, grammar_output)
        finally:
            generators.update(aside)

    return wrapped


def _nothing_without_adapter(shrink: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(shrink)
    def wrapped(inputs: Any, weights: Any, output: Any, slots: Any, scaling: float = 1.0) -> None:
        shrink(inputs, weights, output, slots, scaling)
        output[slots < 0] = 0

    return wrapped


def _only_with_adapters(add: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(add)
    def wrapped(kernels: Any, *args: Any, **kwargs: Any) -> None:
        if not kernels.no_lora:
            add(kernels, *args, **kwargs)

    return wrapped


# The wrapper has a name of its own for it, and the kernel of prefills calls it in its module.
punica_cpu.bgmv_shrink = lora_ops.bgmv_shrink = _nothing_without_adapter(lora_ops.bgmv_shrink)
punica_cpu.PunicaWrapperCPU.add_lora_linear = _only_with_adapters(  # type: ignore[method-assign]
    punica_cpu.PunicaWrapperCPU.add_lora_linear
)
GPUModelRunner.sample_tokens = _keep_generators_of_discarded(GPUModelRunner.sample_tokens)
