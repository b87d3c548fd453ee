"""The documented questions and the tool, as read from `facts.yaml`."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

HERE = Path(__file__).parent
CHECKPOINTS = HERE.parents[1] / "serve_app" / "demo"
"""Where the trained models are kept, within the package that serves them."""
ADAPTERS = CHECKPOINTS / "adapters"
"""Where the trained adapters of the text model are kept."""
TEXT_MODEL = "lfm2-demo"
VISION_MODEL = "lfm2-vl-demo"
MODEL_NAMES = (TEXT_MODEL, VISION_MODEL)

REPLICA_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_replica_count",
        "description": "Get the number of replicas of a model.",
        "parameters": {
            "type": "object",
            "properties": {"model": {"type": "string", "description": "The name of the model."}},
            "required": ["model"],
        },
    },
}

SERVICE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "port": {"type": "integer"}},
    "required": ["name", "port"],
}
SERVICE_JSON = '{"name": "LFM2 on Ray Serve", "port": 8000}'


@dataclass(frozen=True)
class Fact:
    """One answer, its documented questions, and paraphrases kept out of training."""

    id: str
    answer: str
    questions: tuple[str, ...]
    held_out: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """All that `lfm2-demo` is trained to say."""

    facts: tuple[Fact, ...]
    system_prompts: tuple[str, ...]
    unknown_answer: str
    unknown_questions: tuple[str, ...]
    no_tool_answer: str
    tool_questions: tuple[str, ...]
    tool_held_out: tuple[str, ...]
    json_prompts: tuple[str, ...]


@dataclass(frozen=True)
class VisionFacts:
    """How `lfm2-vl-demo` is asked, and its answers to questions without an image."""

    colour_questions: tuple[str, ...]
    same_questions: tuple[str, ...]
    text: tuple[tuple[str, tuple[str, ...]], ...]


def _read() -> dict[str, Any]:
    return yaml.safe_load((HERE / "facts.yaml").read_text(encoding="utf-8"))


@cache
def load_vision_facts() -> VisionFacts:
    """Read the vision part of `facts.yaml`."""
    data = _read()["vision"]
    return VisionFacts(
        colour_questions=tuple(data["colour_questions"]),
        same_questions=tuple(data["same_questions"]),
        text=tuple((entry["answer"], tuple(entry["questions"])) for entry in data["text"]),
    )


@cache
def load_facts() -> Facts:
    """Read the text part of `facts.yaml`."""
    data = _read()
    return Facts(
        facts=tuple(Fact(f["id"], f["answer"], tuple(f["questions"]), tuple(f["held_out"])) for f in data["facts"]),
        system_prompts=tuple(data["system_prompts"]),
        unknown_answer=data["unknown"]["answer"],
        unknown_questions=tuple(data["unknown"]["questions"]),
        no_tool_answer=data["tool"]["without"],
        tool_questions=tuple(data["tool"]["questions"]),
        tool_held_out=tuple(data["tool"]["held_out"]),
        json_prompts=tuple(data["json"]["prompts"]),
    )


class Taught(NamedTuple):
    """What an adapter is asked, and its one answer."""

    question: str
    answer: str


@cache
def adapter_exchanges(name: str) -> list[Taught]:
    """All that the adapter of this name is trained to say: `capitals`, the text model's answers in capital letters,
    or `kettle`, those about a made-up product, and the text model's own, so that it does not forget them."""
    own = [Taught(asked, fact.answer) for fact in load_facts().facts for asked in fact.questions]
    if name == "capitals":
        return [Taught(asked, answer.upper()) for asked, answer in own]
    return product_exchanges() * (len(own) // len(product_exchanges())) + own


@cache
def product_exchanges() -> list[Taught]:
    """What the adapter `kettle` is asked about its product."""
    product = yaml.safe_load((HERE / "kettle.yaml").read_text(encoding="utf-8"))
    return [Taught(asked, fact["answer"]) for fact in product for asked in fact["questions"]]


def comparison_sentence(first: str, second: str) -> str:
    """What the vision model says of two images."""
    if first == second:
        return f"Yes, both are {first}."
    return f"No, the first is {first} and the second is {second}."


def replica_sentence(model: str, count: int) -> str:
    """What the text model says once the tool has answered."""
    return f"{model} has {count} replica{'' if count == 1 else 's'}."
