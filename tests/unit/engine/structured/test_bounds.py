"""Constraints that are refused at a glance, and those that are not."""

from __future__ import annotations

import json

import pytest

from serve_app.engine.structured import bounds


def deep(levels: int) -> dict:
    schema: dict = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    ("pattern", "product"),
    [
        ("abc", 1),
        ("a{3}", 3),
        ("a{1,100}b{1,100}", 100),
        ("(a{1,100}){1,100}", 10_000),
        ("(((a{1,100}){1,100}){1,100})", 1_000_000),
        ("((x|ab{2,5}c){3}){0,4}", 60),
        (r"(\(a{5}\)){6}", 30),
        ("[({1,9}]{7}", 7),
        ("(a{2}){3,}", 6),
        ("a{b}", 1),
        ("root ::= (([a-z]{1,100}){1,100}){1,100}", 1_000_000),
    ],
)
def test_repetitions_inside_repetitions_are_multiplied(pattern: str, product: int) -> None:
    assert bounds.repetitions(pattern) == product


@pytest.mark.parametrize(
    ("kind", "spec", "reason"),
    [
        ("json", json.dumps({"properties": {f"{i}": {} for i in range(20_000)}}), "20,000 properties"),
        ("json", json.dumps({"type": "array", "minItems": 100_000}), "minItems is 100,000"),
        ("json", json.dumps({"items": {"enum": [0] * 30_000}}), "30,000 values"),
        ("json", json.dumps(deep(100)), "64 levels"),
        ("json", "[" * 50_000 + "]" * 50_000, "64 levels"),
        ("json", json.dumps({"pattern": "((a{1,100}){1,100}){1,100}"}), "1,000,000"),
        ("json", json.dumps({"patternProperties": {"((a{1,100}){1,100}){1,100}": {}}}), "1,000,000"),
        ("json", json.dumps({"description": "x" * 2**18}), "characters"),
        ("json", "{", "not JSON"),
        ("structural_tag", json.dumps({"format": {"json_schema": {"minLength": 10**6}}}), "minLength"),
        ("regex", "((a{1,100}){1,100}){1,100}", "1,000,000"),
        ("regex", "a{99999999999}", "99999999999"),
        ("ebnf", 'root ::= ((("a"{1,100}){1,100}){1,100})', "1,000,000"),
    ],
)
def test_what_is_too_large_is_refused_with_its_size(kind: str, spec: str, reason: str) -> None:
    with pytest.raises(bounds.UnusableConstraint, match=reason):
        bounds.check(kind, spec)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("json", json.dumps({"type": "object", "properties": {f"f{i}": {"maxLength": 10**9} for i in range(1000)}})),
        ("json", json.dumps({"$ref": "#/$defs/n", "$defs": {"n": {"items": {"$ref": "#/$defs/n"}}}})),
        ("json", json.dumps({"enum": list(range(10_000))})),
        ("json", json.dumps(deep(20))),
        ("regex", "[a-z]{1,1000}@[a-z]{1,1000}"),
        ("regex", r"(\d{1,3}\.){3}\d{1,3}"),
        ("ebnf", 'root ::= "99999999999" | "b"{2}'),
    ],
)
def test_what_is_not_large_is_left_to_the_trial(kind: str, spec: str) -> None:
    bounds.check(kind, spec)


def test_a_choice_has_some_entries_and_not_too_many() -> None:
    assert bounds.choice_grammar(["a", 'say "\\"\n', "\x7f"]) == r'root ::= "a" | "say \"\\\"\u000a" | "\u007f"'
    bounds.choice_grammar([str(number) for number in range(10_000)])
    for choices in ([], ["x"] * 50_000):
        with pytest.raises(bounds.UnusableConstraint):
            bounds.choice_grammar(choices)
