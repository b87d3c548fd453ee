"""What is asked of every contender: the loads of a comparison, as arguments of `vllm bench serve`.

A new kind of load is a function here that returns a BenchLoad, and an entry in the `loads` of a suite.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from loadtests.bench import adapters

LEAST_REQUESTS = 16
"""Of any load, so that percentiles mean something."""
GREEDY = ("--temperature", "0", "--min-p", "0", "--repetition-penalty", "1")
"""Sampling that every server does alike: the likeliest token."""
RECOMMENDED = ("--temperature", "0.3", "--min-p", "0.15", "--repetition-penalty", "1.05")
"""LiquidAI's sampling for LFM2 text models; vLLM builds the penalty's tensors anew in every step."""


@dataclass(frozen=True)
class BenchLoad:
    """One kind of requests, sent by a fixed number of streams, or at a fixed rate whatever is still open."""

    name: str
    streams: int
    """Requests open at the same time; in an open loop, how many arrive a second."""
    dataset: tuple[str, ...]
    """Arguments of `vllm bench serve` that make the prompts."""
    endpoint: str = "/v1/completions"
    backend: str = "openai"
    rounds: int = 5
    """Requests of each stream; in an open loop, seconds of arrivals."""
    open_loop: bool = False
    """`streams` requests a second arrive by a Poisson process: a server that cannot keep up shows it."""
    sampling: tuple[str, ...] = GREEDY
    """Sent with every request, so that no server's own defaults decide."""
    models: tuple[str, ...] = ()
    """Names that requests ask instead of the model's, each request a random one of them: adapters."""

    @property
    def requests(self) -> int:
        return max(LEAST_REQUESTS, self.streams * self.rounds)


def chat(
    streams: int, prompt: int = 256, output: int = 128, name: str = "chat", rounds: int = 5, spread: float = 0.0
) -> BenchLoad:
    """Random prompts and answers; lengths in tokens, each drawn from its mean +- `spread` of it.

    Without a spread all streams begin together, end together and begin together again, as no real clients do.
    """
    lengths = {"random-input-len": prompt, "random-output-len": output, "random-range-ratio": spread}
    words = [word for key, value in lengths.items() for word in (f"--{key}", f"{value:g}")]
    dataset = ("--dataset-name", "random", *words)
    return BenchLoad(f"{name} {prompt}/{output} x{streams}", streams, dataset, rounds=rounds)


def of_adapters(count: int, load: BenchLoad) -> BenchLoad:
    """A load of which each request asks one of so many adapters."""
    name = f"{load.name}, {count} adapter{'s' if count > 1 else ''}"
    return replace(load, name=name, models=adapters.names(count))


def arrivals(per_s: int, prompt: int = 256, output: int = 128, seconds: int = 15) -> BenchLoad:
    """Random prompts and answers that arrive at a rate, a second; mean lengths in tokens, each drawn from +-50 % of
    it."""
    like = chat(per_s, prompt, output, rounds=seconds, spread=0.5)
    return replace(like, name=f"open loop {prompt}/{output}, {per_s}/s", open_loop=True)


def shared_prefix(streams: int, groups: int, prefix: int, suffix: int, output: int, rounds: int = 5) -> BenchLoad:
    """Prompts of `groups` groups; all of a group begin with one text of `prefix` tokens, and go on with `suffix` random
    ones. Lengths in tokens."""
    lengths = {"prefix-len": prefix, "suffix-len": suffix, "num-prefixes": groups, "output-len": output}
    options = [word for key, value in lengths.items() for word in (f"--prefix-repetition-{key}", str(value))]
    name = f"{groups} prefixes of {prefix} x{streams}"
    return BenchLoad(name, streams, ("--dataset-name", "prefix_repetition", *options), rounds=rounds)


def image(streams: int, side: int, prompt: int, output: int) -> BenchLoad:
    """Chats with one square image of `side` pixels each; lengths of text in tokens."""
    dataset = (
        *("--dataset-name", "random-mm", "--random-input-len", str(prompt), "--random-output-len", str(output)),
        *("--random-mm-base-items-per-request", "1", "--random-mm-num-mm-items-range-ratio", "0"),
        *("--random-mm-limit-mm-per-prompt", '{"image": 1, "video": 0}'),
        *("--random-mm-bucket-config", f"{{({side}, {side}, 1): 1.0}}"),
    )
    return BenchLoad(f"image {side}px x{streams}", streams, dataset, "/v1/chat/completions", "openai-chat")
