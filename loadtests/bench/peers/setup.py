"""What every contender of a suite is given: the model, its engine arguments, the kind of machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from loadtests.bench.adapters import PeerAdapters


@dataclass(frozen=True)
class PeerSetup:
    """One model on one kind of machine, as every contender gets it."""

    model: str
    """The name it is served under."""
    source: str
    """Weights and tokenizer: a path or a Hugging Face repository."""
    gpu: bool
    gpus: int = 1
    """GPUs that each contender gets, where `gpu` is set; 1 on a CPU too."""
    tokenizer: str = ""
    """Where the client finds the tokenizer, if not beside the weights."""
    engine_args: dict[str, Any] = field(default_factory=dict)
    """vLLM's engine arguments, for every contender's engines."""
    platform_args: dict[str, Any] = field(default_factory=dict)
    """Further ones that this project finds by itself on this hardware and the others must be told."""
    model_options: dict[str, Any] = field(default_factory=dict)
    """Further keys of the model's entry in this project's configuration."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables for every contender."""
    streams: int = 512
    """The most requests open at once: every contender's engines together can run that many."""
    question: str | None = None
    """A question whose answer is known, where the weights are real."""
    answer: str = ""
    """What the answer must contain."""
    adapters: PeerAdapters | None = None
    """What is served beside the model."""

    @property
    def on_each(self) -> str:
        """For a contender's name: on how many GPUs it has its engines, where that is more than one."""
        return f" on each of {self.gpus} GPUs" if self.gpus > 1 else ""
