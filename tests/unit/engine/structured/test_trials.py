"""Grammars compiled on trial, by xgrammar in its own process."""

from __future__ import annotations

import asyncio
import json
import os
import string
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serve_app.engine.structured import worker
from serve_app.engine.structured.trials import Busy, Trials, UnusableConstraint

CPU_S = 1.0
SLOW = "root ::= a{1,90}\na ::= b{1,90}\nb ::= c{1,90}\nc ::= [a-z]{1,90}"
"""Repetitions inside each other by way of rules, which nobody sees at a glance."""


@pytest.fixture(scope="module")
def tokenizer() -> str:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import worker;"
        "print(worker.import_xgrammar().TokenizerInfo(sys.argv[2:], stop_token_ids=[0]).serialize_json())"
    )
    characters = [one for one in string.printable if one.isprintable()]
    command = [sys.executable, "-c", script, str(Path(worker.__file__).parent), "<end>", *characters]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
async def trials(tokenizer: str) -> AsyncIterator[Trials]:
    trials = Trials(lambda: tokenizer, cpu_s=CPU_S)
    yield trials
    await trials.close()


RECURSIVE = {"$ref": "#/$defs/n", "$defs": {"n": {"properties": {"c": {"items": {"$ref": "#/$defs/n"}}}}}}
TAG = {"type": "structural_tag", "format": {"type": "json_schema", "json_schema": {"type": "object"}}}
OLD_TAG = {"structures": [{"begin": "<a>", "schema": {"type": "object"}, "end": "</a>"}], "triggers": ["<a"]}


async def test_what_can_be_used(trials: Trials) -> None:
    for kind, spec in (
        ("json", json.dumps({"type": "object"})),
        ("json", json.dumps(RECURSIVE)),
        ("regex", "(a|b)+c{3}"),
        ("ebnf", 'root ::= root "a" | "a"'),
        ("lark", 'start: "a" | start "b"'),
        ("structural_tag", json.dumps(TAG)),
        ("structural_tag", json.dumps(OLD_TAG)),
    ):
        await trials.check(kind, spec)
        assert trials.known(kind, spec), spec


async def test_what_cannot_be_used_and_why(trials: Trials) -> None:
    for kind, spec, reason in (
        ("json", json.dumps({"type": "array", "items": [{"type": "string"}]}), "^items must be a boolean or an object"),
        ("json", json.dumps({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}), "no text"),
        ("regex", "(?=a)b", "Lookahead"),
        ("ebnf", 'root ::= "a"\nroot ::= "b"', "defined multiple times"),
        ("ebnf", "root ::= root", "no text"),
        ("ebnf", 'start ::= "a"', "root"),
        ("structural_tag", "{}", "format"),
        ("structural_tag", json.dumps({"structures": [{}], "triggers": []}), "begin"),
        ("regex", "(" * 50_000 + "a" + ")" * 50_000, "(?i)nest"),
        ("ebnf", SLOW, "takes"),
    ):
        for _ in range(2):
            with pytest.raises(UnusableConstraint, match=reason):
                await trials.check(kind, spec)
        assert not trials.known(kind, spec)


async def test_one_that_takes_too_long_ends_and_the_next_is_tried(trials: Trials) -> None:
    enough = 'root ::= "' + '" | "'.join(f"{number:09d}" for number in range(100_000)) + '"'
    with pytest.raises(UnusableConstraint, match=r"more than 1 s"):
        await trials.check("ebnf", enough)
    await trials.check("regex", "a+")


async def test_who_leaves_ends_the_trial_unless_another_waits(trials: Trials) -> None:
    await trials.check("regex", "a")
    alone = asyncio.create_task(trials.check("ebnf", SLOW))
    await asyncio.sleep(0.1)
    alone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await alone
    await trials.check("regex", "b")
    assert not trials._running

    first, second = (asyncio.create_task(trials.check("regex", "c{1,50}")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await second


async def test_the_same_grammar_is_tried_once(trials: Trials) -> None:
    await asyncio.gather(*(trials.check("regex", "a{1,20}") for _ in range(50)))
    began = time.process_time()
    for _ in range(1000):
        await trials.check("regex", "a{1,20}")
    assert time.process_time() - began < 1


async def test_too_many_new_ones_at_once_are_told_to_come_again(trials: Trials) -> None:
    answers = await asyncio.gather(
        *(trials.check("regex", f"a{{{number}}}") for number in range(1, 60)), return_exceptions=True
    )
    assert {type(answer) for answer in answers} == {type(None), Busy}


async def test_a_process_that_was_killed_is_started_again(trials: Trials) -> None:
    await trials.check("regex", "a")
    assert trials._process is not None
    os.kill(trials._process.pid, 9)
    await trials._process.wait()
    await trials.check("regex", "b")
