"""How texts of a command line are read: numbers within bounds, and specs such as `spike:base=2,peak=12`.

A spec, `name:key=value,key=value`, names a function and its arguments. This module lies below all rooms of
the load tests: `loadtests.results` reads an SLO with it, `loadtests.loadgen` traffic and lengths.
"""

from __future__ import annotations

import argparse
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from serve_app.config.errors import nearest

T = TypeVar("T")
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class BadSpec(ValueError):
    """A text of the command line that cannot be read; says what was wrong and what would be right."""


def whole(least: int = 1) -> Callable[[str], int]:
    """A whole number that is not below `least`."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a whole number; got {text!r}") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}; got {value}")
        return value

    return read


def above_zero(most: float = math.inf, endless: bool = False) -> Callable[[str], float]:
    """A number above 0 and not above `most`; infinite where that is `endless` on purpose."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a number; got {text!r}") from None
        if not value > 0 or value > most or (math.isinf(value) and not endless):
            bound = "" if math.isinf(most) else f" and at most {most:g}"
            raise argparse.ArgumentTypeError(f"must be above 0{bound}; got {text}")
        return value

    return read


def call_spec(functions: Mapping[str, Callable[..., T]], text: str, what: str) -> T:
    """`name:key=value,...` as a call of the function of that name.

    Its arguments are numbers, with a unit of time where one is given (`90`, `90s`, `1.5m`, `500ms`), or texts where
    they are annotated `str`; one called `for_` is written `for`. A value without a key is the first argument. Raises
    BadSpec.
    """
    name, _, rest = text.partition(":")
    name = name.strip()
    if name not in functions:
        raise BadSpec(f"{what} {text!r}: there is no {name!r}{instead(name, functions)}; there are {_list(functions)}")
    function = functions[name]
    parameters = {key.rstrip("_"): one for key, one in inspect.signature(function, eval_str=True).parameters.items()}
    given: dict[str, Any] = {}
    for i, word in enumerate(filter(None, (word.strip() for word in rest.split(",")))):
        key, equals, value = (part.strip() for part in word.partition("="))
        if not equals and i == 0:
            key, value = next(iter(parameters)), key
        if key not in parameters:
            hint = f"{instead(key, parameters)}; {name} takes {_list(parameters)}"
            raise BadSpec(f"{what} {text!r}: unknown key {key!r}{hint}")
        if parameters[key].name in given:
            raise BadSpec(f"{what} {text!r}: {key} is given twice")
        is_text = parameters[key].annotation is str
        given[parameters[key].name] = value if is_text else number(value, f"{what} {text!r}: {key}")
    if missing := [key for key, one in parameters.items() if one.default is one.empty and one.name not in given]:
        raise BadSpec(f"{what} {text!r}: {_list(missing)} must be given; {name} takes {_list(parameters)}")
    try:
        return function(**given)
    except (ValueError, OSError, OverflowError) as error:
        raise BadSpec(f"{what} {text!r}: {error}") from error


def number(text: str, where: str) -> float:
    """A number, or a time in seconds where it has a unit; raises BadSpec."""
    plain = text.strip()
    unit = next((unit for unit in UNITS if plain.endswith(unit)), "")
    try:
        value = float(plain.removesuffix(unit)) * UNITS.get(unit, 1.0)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadSpec(f"{where} must be a number (times may end in {_list(UNITS)}); got {text!r}")
    return value


def instead(name: str, known: Mapping[str, Any]) -> str:
    """The known name that is nearest, as a question; empty where none is near."""
    near = nearest(name, known)
    return f", did you mean {near!r}?" if near else ""


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
