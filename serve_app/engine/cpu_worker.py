"""A fault of vLLM 0.32's CPU build, mended in its worker process (`worker_extension_cls` imports this there).

When a prompt is prefilled in several steps, the runner samples after each and takes the draw back from a seeded
request's generator by its offset. CPU generators have none: the engine process died, of one client's `seed`.
Here such a generator is put aside while a draw that will be discarded is made, which is the same without rewinding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from vllm.v1.worker.gpu_model_runner import GPUModelRunner


class SeededChunks:
    """Named in the engine arguments; its module's import is what matters."""


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


GPUModelRunner.sample_tokens = _keep_generators_of_discarded(GPUModelRunner.sample_tokens)
