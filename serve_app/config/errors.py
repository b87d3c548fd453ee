"""What is wrong with a configuration, told for people: where, what, and the nearest thing that would be right."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

KeyPath = tuple[str | int, ...]
"""Keys of mappings and indices of lists, from the top of a configuration to one of its parts."""

SECRET = frozenset({"api_keys", "key", "key_sha256"})
"""Values beneath these keys are not repeated in a message, nor what stands in the place of an entry of `keys`."""
SEVERAL_KEYS = "several_keys"
"""Type of the error that blames several keys of one mapping: its context has `{place: what is wrong}`."""

REPLACED = {
    "affinity": ("routing_policy", "`affinity: false` is `routing_policy: least_loaded`, and `true` is its default"),
}
"""Keys of earlier versions, each with the key that stands for it now and what to write."""


@dataclass(frozen=True)
class Problem:
    """One thing to mend."""

    path: KeyPath
    """Keys and indices from the top of the file."""
    text: str
    line: int | None = None
    """Of the file, counted from 1; None where there is no file or nothing of the path stands in it."""

    def __str__(self) -> str:
        return f"{spell(self.path)}: {self.text}" if self.path else self.text


class ConfigError(Exception):
    """A configuration cannot be used; its text lists everything found wrong."""

    def __init__(self, problems: Iterable[Problem], where: str = "the configuration") -> None:
        self.problems = tuple(problems)
        self.where = where
        if len(self.problems) == 1:
            text = _placed(self.problems[0], where, f"{where}: ")
        else:
            told = (_placed(problem, where, "") for problem in self.problems)
            text = "\n  ".join([f"{where}: {len(self.problems)} problems", *told])
        super().__init__(text)

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Problem, ...], str]]:
        return type(self), (self.problems, self.where)


def _placed(problem: Problem, where: str, otherwise: str) -> str:
    """A problem after its `FILE:LINE: `, which editors follow; after `otherwise` where its line is not known."""
    return f"{otherwise if problem.line is None else f'{where}:{problem.line}: '}{problem}"


def spell(path: KeyPath) -> str:
    """`("models", 1, "gpus")` as `models[1].gpus`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def unknown_key(key: str, known: Iterable[str]) -> str:
    """What to say of a key nobody reads."""
    known = sorted(known)
    if (hint := REPLACED.get(key)) and hint[0] in known:
        return f"is now `{hint[0]}`: {hint[1]}"
    if near := nearest(key, known):
        return f"unknown key; did you mean `{near}`?"
    return "unknown key" if len(known) > 30 else f"unknown key; known are {', '.join(known)}"


def nearest(key: str, known: Iterable[str]) -> str | None:
    """The known key most like this one, if any is."""
    return next(iter(difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.6)), None)


def explain(error: ValidationError, model: type[BaseModel], at: KeyPath = ()) -> list[Problem]:
    """pydantic's errors of `model`, which lies at `at`, as problems."""
    problems = []
    details = error.errors(include_url=False)
    for detail in details:
        # pydantic counts the items that are right, so one wrong item also makes a list too short.
        if detail["type"] == "too_short" and any(_beneath(other["loc"], detail["loc"]) for other in details):
            continue
        path = (*at, *detail["loc"])
        if detail["type"] == SEVERAL_KEYS:
            problems += [Problem((*path, *place), text) for place, text in detail["ctx"]["keys"].items()]
        elif detail["type"] == "extra_forbidden":
            section = _section(model, detail["loc"][:-1])
            problems.append(Problem(path, unknown_key(str(detail["loc"][-1]), section.model_fields if section else ())))
        else:
            problems.append(Problem(path, _plain(detail)))
    return problems


def _beneath(path: KeyPath, top: KeyPath) -> bool:
    return len(path) > len(top) and path[: len(top)] == top


def _plain(detail: ErrorDetails) -> str:
    if detail["type"] == "missing":
        return "is required"
    if detail["type"] == "value_error":
        return detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "too_short":
        return f"needs at least {detail['ctx']['min_length']} entry"
    text = re.sub(r" or instance of \w+", "", detail["msg"].removeprefix("Input "))
    text = text.replace("valid tuple", "list").replace("valid dictionary", "mapping")
    given = detail["input"]
    if _is_secret(detail["loc"]) or isinstance(given, (dict, list, tuple)):
        return text
    return f"{text}, not {given!r}"


def _is_secret(path: KeyPath) -> bool:
    return not SECRET.isdisjoint(path) or (len(path) > 1 and path[-2] == "keys") or path[-1:] == ("keys",)


def _section(model: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    """The part of `model` that lies at `path`."""
    found: type[BaseModel] | None = model
    for part in path:
        if found is None:
            return None
        if isinstance(part, str):
            field = found.model_fields.get(part)
            found = _part(field.annotation) if field else None
    return found


def _part(annotation: object) -> type[BaseModel] | None:
    """The section an annotation holds: itself, in an optional, or in a tuple."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((part for one in typing.get_args(annotation) if (part := _part(one))), None)
