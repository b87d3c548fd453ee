"""Lengths and traces."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from statistics import median

import pytest

from loadtests.arguments import BadSpec
from loadtests.loadgen import trace
from loadtests.loadgen.lengths import parse


def test_fixed_lengths_are_all_alike() -> None:
    lengths = parse("fixed:prompt=256,output=128")
    assert {lengths.draw(Random(i), i) for i in range(5)} == {(256, 128)}


def test_lognormal_lengths_have_their_medians_and_are_cut() -> None:
    lengths = parse("lognormal:prompt=200,output=50,most=1000")
    rng = Random(1)
    drawn = [lengths.draw(rng, i) for i in range(4000)]
    assert median(prompt for prompt, _ in drawn) == pytest.approx(200, rel=0.1)
    assert median(output for _, output in drawn) == pytest.approx(50, rel=0.1)
    assert max(prompt for prompt, _ in drawn) == 1000 and min(output for _, output in drawn) >= 1


OWN = """{"at_s": 1, "prompt_tokens": 3, "output_tokens": 4}
{"at_s": 3.5, "prompt_tokens": 5, "output_tokens": 6}
"""
MOONCAKE = """{"timestamp": 1000, "input_length": 3, "output_length": 4, "hash_ids": [1]}
{"timestamp": 3500, "input_length": 5, "output_length": 6}
"""
AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,3,4
2023-11-16 18:15:49.1805900,5,6
"""


@pytest.mark.parametrize(("name", "text"), [("own.jsonl", OWN), ("mooncake.jsonl", MOONCAKE), ("azure.csv", AZURE)])
def test_traces_of_several_kinds_read_alike(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    first, second = trace.read(file)
    assert (first.at_s, second.at_s) == (0, pytest.approx(2.5))
    lengths = parse(f"trace:{file}")
    assert [lengths.draw(Random(1), i) for i in range(3)] == [(3, 4), (5, 6), (3, 4)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fixed:prompt=256", "output must be given"),
        ("fixed:prompt=2.5,output=1", "whole number of tokens"),
        ("lognormal:prompt=1,output=1,sigma=2", "takes prompt, output, prompt_sigma"),
        ("lognorm:prompt=1,output=1", "did you mean 'lognormal'"),
    ],
)
def test_lengths_that_cannot_be_read_say_why(text: str, said: str) -> None:
    with pytest.raises(BadSpec, match=said):
        parse(text)


@pytest.mark.parametrize(
    ("line", "said"),
    [({"at": 1}, "no time of arrival"), ({"at_s": 1, "prompt_tokens": 2}, "no length"), (None, "no request")],
)
def test_a_trace_that_cannot_be_read_names_the_line(tmp_path: Path, line: object, said: str) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_text(json.dumps(line) + "\n" if line else "")
    with pytest.raises(BadSpec, match=said):
        parse(f"trace:{file}")
