"""What is refused of a constraint before anything compiles it: sizes that can be seen without understanding it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

MOST_CHARACTERS = 256 * 1024
MOST_DEPTH = 64
"""Objects and arrays inside each other in a schema; vLLM's own bound as well."""
MOST_PROPERTIES = 5000
"""Of all objects of a schema together."""
MOST_VALUES = 20_000
"""Of all `enum`s of a schema together; of a choice."""
MOST_ITEMS = 10_000
"""A `minItems`, `minLength` or `minProperties`: more than an answer can hold."""
MOST_REPETITIONS = 20_000
"""Repetitions inside repetitions, multiplied: `(a{1,100}){1,100}` is 10,000."""

_QUANTIFIER = re.compile(r"\{(\d*),?(\d*)\}")
_HUGE = re.compile(r"\{\d*,?\d{10,}|\{\d{10,}")
_ESCAPES = {code: f"\\u{code:04x}" for code in (*range(0x20), 0x7F)} | {ord("\\"): r"\\", ord('"'): r"\""}


class UnusableConstraint(ValueError):
    """The constraint cannot be used; the text says why, for the client."""


def check(kind: str, spec: str) -> None:
    """Raise UnusableConstraint for a constraint that is too large.

    The kinds are `json`, `regex`, `ebnf`, `lark`, `structural_tag`, and `choice` for what `choice_grammar` made.
    """
    if len(spec) > MOST_CHARACTERS:
        raise UnusableConstraint(f"it has {len(spec):,} characters; {MOST_CHARACTERS:,} are the most")
    if kind not in ("json", "structural_tag"):
        if kind != "choice":
            _check_repetitions(spec, "expression" if kind == "regex" else "grammar")
        return
    try:
        tree = json.loads(spec)
    except ValueError as error:
        raise UnusableConstraint(f"it is not JSON: {error}") from None
    except RecursionError:
        raise UnusableConstraint(f"it is nested more than {MOST_DEPTH} levels deep") from None
    _check_tree(tree)


def choice_grammar(choices: list[str]) -> str:
    """The allowed answers as an EBNF grammar; raises UnusableConstraint if there are none or too many."""
    if not choices:
        raise UnusableConstraint("a choice needs at least one entry")
    if len(choices) > MOST_VALUES:
        raise UnusableConstraint(f"it has {len(choices):,} entries; {MOST_VALUES:,} are the most")
    return "root ::= " + " | ".join(f'"{choice.translate(_ESCAPES)}"' for choice in choices)


def repetitions(pattern: str) -> int:
    """The largest product of repetitions inside each other in a regular expression or an EBNF grammar's rules."""
    largest, depths, last = 1, [1], 1
    # For each open group the largest product inside it; `last` is that of what a quantifier would repeat.
    for token in _tokens(pattern):
        if token == "(":
            depths.append(1)
        elif token == ")" and len(depths) > 1:
            last = depths.pop()
            depths[-1] = max(depths[-1], last)
        elif found := _QUANTIFIER.fullmatch(token):
            least, most = found.groups()
            product = last * max(int(most or 0), int(least or 0), 1)
            largest, depths[-1] = max(largest, product), max(depths[-1], product)
            last = product
        else:
            last = 1
    return largest


def _tokens(pattern: str) -> Iterator[str]:
    """Groups, quantifiers, and one token for each other character or escape; what stands in `[...]` is one."""
    at, size = 0, len(pattern)
    while at < size:
        char = pattern[at]
        if char == "\\":
            yield "a"
            at += 2
        elif char == "[":
            end = at + 1
            while end < size and pattern[end] != "]":
                end += 2 if pattern[end] == "\\" else 1
            yield "a"
            at = end + 1
        elif char == "{" and (found := _QUANTIFIER.match(pattern, at)):
            yield found[0]
            at = found.end()
        else:
            yield char
            at += 1


def _check_repetitions(pattern: str, what: str) -> None:
    if found := _HUGE.search(pattern):
        raise UnusableConstraint(f"the {what} repeats something {found[0][:20]}... times")
    if "(" in pattern and _QUANTIFIER.search(pattern) and (product := repetitions(pattern)) > MOST_REPETITIONS:
        raise UnusableConstraint(
            f"the {what} repeats what is repeated, {product:,} times in all; {MOST_REPETITIONS:,} are the most"
        )


def _check_tree(tree: Any) -> None:
    properties = values = 0
    stack: list[tuple[Any, int]] = [(tree, 1)]
    while stack:
        node, depth = stack.pop()
        if depth > MOST_DEPTH:
            raise UnusableConstraint(f"it is nested more than {MOST_DEPTH} levels deep")
        if isinstance(node, dict):
            properties += _count(node.get("properties")) + _count(node.get("patternProperties"))
            values += _count(node.get("enum"))
            _check_object(node)
            stack += [(child, depth + 1) for child in node.values() if isinstance(child, (dict, list))]
        elif isinstance(node, list):
            stack += [(child, depth + 1) for child in node if isinstance(child, (dict, list))]
    if properties > MOST_PROPERTIES:
        raise UnusableConstraint(f"it has {properties:,} properties; {MOST_PROPERTIES:,} are the most")
    if values > MOST_VALUES:
        raise UnusableConstraint(f"its enums have {values:,} values; {MOST_VALUES:,} are the most")


def _check_object(node: dict[str, Any]) -> None:
    for name in ("minItems", "minLength", "minProperties"):
        if isinstance(least := node.get(name), int) and least > MOST_ITEMS:
            raise UnusableConstraint(f"{name} is {least:,}; {MOST_ITEMS:,} is the most")
    for name in ("pattern", "regex"):
        if isinstance(pattern := node.get(name), str):
            _check_repetitions(pattern, name)
    if isinstance(patterns := node.get("patternProperties"), dict):
        for pattern in patterns:
            _check_repetitions(pattern, "pattern of patternProperties")


def _count(value: Any) -> int:
    return len(value) if isinstance(value, (dict, list)) else 0
