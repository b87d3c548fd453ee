"""One sequence of the simulated engine: what it asks for, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol


class CountsSteps(Protocol):
    """Who decodes sequences, all of them in each step."""

    steps: int
    """So far."""


@dataclass(slots=True, eq=False)
class Sequence:
    """One prompt and the output it will get."""

    prompt_tokens: int
    output_tokens: int
    """Tokens it will emit; 0 ends it with its prefill, as an embedding does."""
    cached_tokens: int
    """Of the prompt, found in the prefix cache and not prefilled again."""
    submitted_at: float
    tag: Any = None
    """The caller's own."""
    priority: int = 0
    """Who has a lower one waits for nobody who has a higher one."""
    state: Literal["waiting", "prefilling", "decoding", "finished", "cancelled"] = "waiting"
    admitted_at: float | None = None
    first_token_at: float | None = None
    ended_at: float | None = None
    _unprefilled: int = 0
    _batch: CountsSteps | None = None
    """While it is decoded: whose steps count its tokens, those after the first `_joined_at`."""
    _joined_at: int = 0
    _emitted: int = 0

    @property
    def emitted(self) -> int:
        """Tokens so far."""
        return self._emitted if self._batch is None else self._batch.steps - self._joined_at

    @property
    def tokens(self) -> int:
        """KV cache it may come to need, tokens."""
        return self.prompt_tokens + self.output_tokens

    @property
    def service_s(self) -> float:
        """Seconds in the batch, of a sequence that was in it and has ended."""
        assert self.admitted_at is not None and self.ended_at is not None
        return self.ended_at - self.admitted_at

    @property
    def ended(self) -> bool:
        return self.state in ("finished", "cancelled")
