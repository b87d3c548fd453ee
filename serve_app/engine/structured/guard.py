"""Bounds what a grammar may cost while an answer is written; imported in the engine's process, which is what matters.

A trial follows a grammar for some hundred tokens on one path, but an answer may take another: one that leads nowhere,
where vLLM 0.32 samples from nothing and fails the request, or one where each token takes longer than the one before,
while every other answer waits. Here such an answer may only end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy
from vllm.v1.structured_output.backend_xgrammar import XgrammarGrammar

MOST_S = 1.0
MOST_S_PER_TOKEN = 0.001
"""CPU time of following a grammar through an answer, and as much for each of its tokens; 0.02 to 0.1 ms is usual."""


def _bounded_fill(fill: Callable[..., None]) -> Callable[..., None]:
    def fill_bitmask(grammar: Any, bitmask: Any, row: int) -> None:
        began = time.thread_time()
        fill(grammar, bitmask, row)
        spent = _spend(grammar, began)
        mask = bitmask.numpy()[row]
        if spent > MOST_S + MOST_S_PER_TOKEN * grammar.num_processed_tokens or not numpy.count_nonzero(mask):
            grammar.ending = True
            mask[:] = 0
            for token in grammar.ctx.tokenizer_info.stop_token_ids:
                mask[token // 32] |= _bit(token % 32)

    return fill_bitmask


def _bounded_accept(accept: Callable[..., bool]) -> Callable[..., bool]:
    def accept_tokens(grammar: Any, request_id: str, tokens: list[int]) -> bool:
        if getattr(grammar, "ending", False):
            grammar._is_terminated = True
            return True
        began = time.thread_time()
        accepted = accept(grammar, request_id, tokens)
        _spend(grammar, began)
        return accepted

    return accept_tokens


def _spend(grammar: Any, began: float) -> float:
    """CPU time it has taken so far, seconds."""
    grammar.spent_s = getattr(grammar, "spent_s", 0.0) + time.thread_time() - began
    spent: float = grammar.spent_s
    return spent


def _bit(position: int) -> int:
    """As a signed 32-bit number."""
    return 1 << position if position < 31 else -(1 << 31)


XgrammarGrammar.fill_bitmask = _bounded_fill(XgrammarGrammar.fill_bitmask)
XgrammarGrammar.accept_tokens = _bounded_accept(XgrammarGrammar.accept_tokens)
