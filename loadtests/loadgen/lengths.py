"""How long prompts and answers are, in tokens.

A new distribution is a class here with the method of Lengths, a function that makes it, and the function's name in
KINDS: `--lengths` takes `name:key=value,...` then, with the function's parameters as keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol

from loadtests import arguments
from loadtests.loadgen import trace

MOST_SIGMA = 5
"""Beyond it a length is 1 token or the most there may be."""


class Lengths(Protocol):
    """A source of (prompt tokens, output tokens)."""

    def draw(self, rng: Random, index: int) -> tuple[int, int]:
        """(prompt tokens, output tokens) of the index-th request of the whole test."""


@dataclass(frozen=True)
class FixedLengths:
    """The lengths given, for every request."""

    prompt: int
    output: int

    def draw(self, rng: Random, index: int) -> tuple[int, int]:
        return self.prompt, self.output


@dataclass(frozen=True)
class LognormalLengths:
    """Both lengths lognormal and independent, as chat traffic is nearly: half are shorter than the median."""

    prompt: float
    """Median, tokens."""
    output: float
    """Median, tokens."""
    prompt_sigma: float
    """Standard deviation of the natural logarithm."""
    output_sigma: float
    most: int
    """Longer ones are cut to this, tokens."""

    def draw(self, rng: Random, index: int) -> tuple[int, int]:
        return self._one(rng, self.prompt, self.prompt_sigma), self._one(rng, self.output, self.output_sigma)

    def _one(self, rng: Random, median: float, sigma: float) -> int:
        return max(1, min(self.most, round(rng.lognormvariate(math.log(median), sigma))))


@dataclass(frozen=True)
class TracedLengths:
    """Lengths of a trace's requests, in its order, and from its start again when they are used up."""

    pairs: tuple[tuple[int, int], ...]
    """(prompt tokens, output tokens) of each request."""

    def draw(self, rng: Random, index: int) -> tuple[int, int]:
        return self.pairs[index % len(self.pairs)]


def fixed(prompt: float, output: float) -> Lengths:
    """Every request alike."""
    return FixedLengths(_whole(prompt, "prompt"), _whole(output, "output"))


def lognormal(
    prompt: float, output: float, prompt_sigma: float = 0.8, output_sigma: float = 0.6, most: float = 4096
) -> Lengths:
    """Medians, the spread of their logarithms, and where they are cut."""
    if not 0 <= prompt_sigma <= MOST_SIGMA or not 0 <= output_sigma <= MOST_SIGMA:
        raise ValueError(f"a sigma must be from 0 to {MOST_SIGMA}")
    for name, median in (("prompt", prompt), ("output", output)):
        if median > most:
            raise ValueError(f"{name}={median:g} is above most={most:g}, to which longer ones are cut")
    return LognormalLengths(
        _whole(prompt, "prompt"), _whole(output, "output"), prompt_sigma, output_sigma, _whole(most, "most")
    )


def traced(file: str, most: float = math.inf) -> Lengths:
    """Lengths of a trace file's requests, cut to `most` tokens each."""
    if most < 1:
        raise ValueError("most must be above 0")
    return TracedLengths(
        tuple((int(min(most, one.prompt_tokens)), int(min(most, one.output_tokens))) for one in trace.read(Path(file)))
    )


KINDS: dict[str, Callable[..., Lengths]] = {"fixed": fixed, "lognormal": lognormal, "trace": traced}


def parse(text: str) -> Lengths:
    """`fixed:prompt=256,output=128`, `lognormal:prompt=256,output=128,prompt_sigma=0.8` or `trace:FILE`, in tokens.

    Raises BadSpec.
    """
    return arguments.call_spec(KINDS, text, "lengths")


def _whole(value: float, name: str) -> int:
    if value < 1 or value != int(value):
        raise ValueError(f"{name} must be a whole number of tokens above 0; got {value:g}")
    return int(value)
