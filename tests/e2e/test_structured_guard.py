"""What a grammar may cost the engine while an answer is written."""

from __future__ import annotations

import string

import pytest
import torch
import xgrammar
from vllm.v1.structured_output.backend_xgrammar import XgrammarGrammar

from serve_app.engine.structured import guard

CHARACTERS = ["<end>", *(one for one in string.printable if one.isprintable())]
END = 0


def matched(grammar: str, text: str) -> tuple[XgrammarGrammar, list[str]]:
    """The grammar after as much of `text` as it takes, and what may come next."""
    info = xgrammar.TokenizerInfo(CHARACTERS, stop_token_ids=[END])
    compiled = xgrammar.GrammarCompiler(info, max_threads=1).compile_grammar(grammar)
    followed = XgrammarGrammar(vocab_size=len(CHARACTERS), matcher=xgrammar.GrammarMatcher(compiled), ctx=compiled)
    allowed = following(followed)
    for one in text:
        if one not in allowed:
            break
        assert followed.accept_tokens("request", [CHARACTERS.index(one)])
        allowed = following(followed)
    return followed, allowed


def following(grammar: XgrammarGrammar) -> list[str]:
    mask = xgrammar.allocate_token_bitmask(2, len(CHARACTERS))
    grammar.fill_bitmask(mask, 1)
    bits = torch.bitwise_right_shift(mask[1][:, None], torch.arange(32)).bitwise_and(1).flatten().tolist()
    return [CHARACTERS[token] for token, bit in enumerate(bits[: len(CHARACTERS)]) if bit]


def test_an_ordinary_grammar_is_followed() -> None:
    grammar, allowed = matched('root ::= "ab" [cd]', "ab")
    assert allowed == ["c", "d"] and not grammar.is_terminated()


def test_where_nothing_may_follow_the_answer_ends() -> None:
    grammar, allowed = matched('root ::= "ab" x\nx ::= "c" x', "abccc")
    assert allowed == ["c"]
    grammar, allowed = matched('root ::= "a" x | "b"\nx ::= x', "a")
    assert allowed == ["<end>"]
    assert grammar.accept_tokens("request", [END]) and grammar.is_terminated()


def test_one_that_takes_too_long_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MOST_S", 0.05)
    monkeypatch.setattr(guard, "MOST_S_PER_TOKEN", 0.0)
    grammar, allowed = matched('root ::= x\nx ::= x x x | "a"', "a" * 1000)
    assert allowed == ["<end>"] and grammar.num_processed_tokens < 1000
