"""What users ask of which model. Each scenario makes requests, and is told of their answers where its next needs them.

A new scenario is a class here with the method of Scenario, and its name in SCENARIOS: `--scenario` of the Locust file
and of the tuner takes it then. One whose answers are never streamed is named in UNSTREAMED as well.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, product
from random import Random
from typing import Any, Protocol

from loadtests import arguments
from loadtests.loadgen import images
from loadtests.loadgen.lengths import Lengths
from loadtests.loadgen.prompts import Prose

UNSTREAMED = frozenset({"batch"})
"""Scenarios whose answers come whole."""
BATCH_OUTPUT_TIMES = 4
"""How much longer than others' the answers of batch-like requests are."""


@dataclass(frozen=True, slots=True)
class ScenarioRequest:
    """One chat completion to ask for."""

    scenario: str
    body: bytes
    stream: bool
    model: str = ""
    """The name that it asks."""
    session: str | None = None
    """Sent as x-session-id."""
    on_text: Callable[[str | None], None] | None = None
    """Called at the end with the answer's text, None if there was no answer; without it texts are not kept."""


@dataclass(frozen=True)
class ScenarioSettings:
    """What all scenarios are made from: options of the Locust file."""

    lengths: Lengths
    prose: Prose
    model: str = ""
    """The name that requests give."""
    stream: bool = True
    turns: int = 5
    """Of a conversation."""
    prefix_groups: int = 8
    prefix_tokens: int = 512
    image_sizes: Sequence[tuple[int, int]] = ((256, 256), (512, 512), (1024, 768))
    extra_body: dict[str, Any] = field(default_factory=dict)
    """Laid over every request's parameters."""
    seed: int = 1


class Scenario(Protocol):
    """A kind of user; one object makes the requests of all such users in a process."""

    def next(self, rng: Random, index: int) -> ScenarioRequest:
        """The next request; `index` is the request's number in the whole test."""


class ChatScenario:
    """Single questions with random texts, which no prefix cache has seen."""

    def __init__(self, settings: ScenarioSettings) -> None:
        self._settings = settings

    def next(self, rng: Random, index: int) -> ScenarioRequest:
        prompt, output = self._settings.lengths.draw(rng, index)
        messages = [{"role": "user", "content": self._settings.prose.write(rng, prompt)}]
        return _request("chat", self._settings, json.dumps(messages).encode(), output)


class ConversationScenario:
    """Several turns, each with the whole history before it, under a session id.

    Of several conversations that wait for their next turn, the one that has waited longest goes on.
    """

    def __init__(self, settings: ScenarioSettings) -> None:
        self._settings = settings
        self._waiting: deque[tuple[str, list[dict[str, str]]]] = deque()

    def next(self, rng: Random, index: int) -> ScenarioRequest:
        settings = self._settings
        session, history = self._waiting.popleft() if self._waiting else (f"{rng.getrandbits(64):016x}", [])
        prompt, output = settings.lengths.draw(rng, index)
        messages = [*history, {"role": "user", "content": settings.prose.write(rng, prompt)}]

        def go_on(text: str | None) -> None:
            if text is not None and len(messages) < 2 * settings.turns - 1:
                self._waiting.append((session, [*messages, {"role": "assistant", "content": text}]))

        return _request("conversation", settings, json.dumps(messages).encode(), output, session, go_on)


class SharedPrefixScenario:
    """Questions after one of a few long system prompts."""

    def __init__(self, settings: ScenarioSettings) -> None:
        self._settings = settings
        rng = Random(settings.seed)
        groups = range(settings.prefix_groups)
        self._prefixes = [settings.prose.write(rng, settings.prefix_tokens) for _ in groups]

    def next(self, rng: Random, index: int) -> ScenarioRequest:
        prompt, output = self._settings.lengths.draw(rng, index)
        question = self._settings.prose.write(rng, prompt)
        messages = [
            {"role": "system", "content": rng.choice(self._prefixes)},
            {"role": "user", "content": question},
        ]
        return _request("shared-prefix", self._settings, json.dumps(messages).encode(), output)


class VisionScenario:
    """A question about one image."""

    def __init__(self, settings: ScenarioSettings) -> None:
        self._settings = settings
        self._images = images.content_parts(settings.image_sizes, settings.seed)

    def next(self, rng: Random, index: int) -> ScenarioRequest:
        prompt, output = self._settings.lengths.draw(rng, index)
        text = json.dumps({"type": "text", "text": self._settings.prose.write(rng, prompt)}).encode()
        messages = b'[{"role":"user","content":[%b,%b]}]' % (self._images[index % len(self._images)], text)
        return _request("vision", self._settings, messages, output)


class BatchScenario:
    """Long answers that nobody watches: not streamed."""

    def __init__(self, settings: ScenarioSettings) -> None:
        self._settings = settings

    def next(self, rng: Random, index: int) -> ScenarioRequest:
        prompt, output = self._settings.lengths.draw(rng, index)
        messages = json.dumps([{"role": "user", "content": self._settings.prose.write(rng, prompt)}]).encode()
        return _request("batch", self._settings, messages, output * BATCH_OUTPUT_TIMES, stream=False)


SCENARIOS: dict[str, Callable[[ScenarioSettings], Scenario]] = {
    "chat": ChatScenario,
    "conversation": ConversationScenario,
    "shared-prefix": SharedPrefixScenario,
    "vision": VisionScenario,
    "batch": BatchScenario,
}


class ScenarioMix:
    """Requests of several scenarios to several models, each request of a scenario and to a model drawn by weight.

    Each model has scenarios of its own, so that a conversation stays with its model. All have the same texts at the
    same seed: a system prompt is shared by the models, as by the adapters of one base.
    """

    def __init__(self, weights: dict[str, float], settings: ScenarioSettings, models: dict[str, float]) -> None:
        asked = [replace(settings, model=model) for model in models]
        self._scenarios = [SCENARIOS[name](one) for one, name in product(asked, weights)]
        self._cumulative = list(accumulate(a * b for a, b in product(models.values(), weights.values())))

    def next(self, rng: Random, index: int) -> ScenarioRequest:
        return rng.choices(self._scenarios, cum_weights=self._cumulative)[0].next(rng, index)


def weights(text: str) -> dict[str, float]:
    """`chat` or `chat:3,vision:1`: scenarios and how often each is chosen. Raises BadSpec."""
    found: dict[str, float] = {}
    for word in filter(None, (word.strip() for word in text.split(","))):
        name, colon, weight = word.partition(":")
        if name not in SCENARIOS:
            near = arguments.instead(name, SCENARIOS)
            raise arguments.BadSpec(f"scenario {name!r} is not known{near}; there are {', '.join(SCENARIOS)}")
        _put(found, name, weight if colon else "1", "scenario")
    if not found:
        raise arguments.BadSpec(f"no scenario is given; there are {', '.join(SCENARIOS)}")
    return found


def models(text: str) -> dict[str, float]:
    """`a` or `a:3,b:1`: names of models or of adapters, and how often each is asked. Raises BadSpec.

    What stands behind a name's last colon is its weight where it is a number, and else part of the name.
    """
    found: dict[str, float] = {}
    for word in filter(None, (word.strip() for word in text.split(","))):
        name, _, weight = word.rpartition(":")
        weighted = name and re.fullmatch(r"[-+]?\d[\d.eE+-]*", weight)
        _put(found, *((name, weight) if weighted else (word, "1")), "model")
    if not found:
        raise arguments.BadSpec("--model names the model to ask, and is empty")
    return found


def _put(found: dict[str, float], name: str, weight: str, what: str) -> None:
    if name in found:
        raise arguments.BadSpec(f"{what} {name!r} is given twice")
    found[name] = arguments.number(weight, f"{what} {name!r}: its weight")
    if found[name] <= 0:
        raise arguments.BadSpec(f"{what} {name!r}: its weight must be above 0")


def _request(
    scenario: str,
    settings: ScenarioSettings,
    messages: bytes,
    output: int,
    session: str | None = None,
    on_text: Callable[[str | None], None] | None = None,
    stream: bool | None = None,
) -> ScenarioRequest:
    stream = settings.stream if stream is None else stream
    head: dict[str, Any] = {"model": settings.model, "max_tokens": output, "ignore_eos": True, "stream": stream}
    if stream:
        head["stream_options"] = {"include_usage": True}
    head |= settings.extra_body
    body = json.dumps(head).encode()[:-1] + b', "messages": ' + messages + b"}"
    return ScenarioRequest(scenario, body, stream, settings.model, session, on_text)
