"""What a model's context holds, known of a text without tokenizing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PIECE = 2**14
"""Characters counted at a time."""
AT_CUT = 16
"""Tokens that a text may have more because it was cut, at each cut."""


@dataclass(frozen=True, slots=True)
class Context:
    """A context's size."""

    tokens: int
    longest: int
    """Bytes of the vocabulary's longest token."""

    @property
    def bytes(self) -> int:
        """A longer text has more tokens than the context."""
        return self.tokens * self.longest

    def too_long(self, why: str, characters: int) -> str:
        """What is said of a prompt that does not fit."""
        return (
            f"this model's maximum context length is {self.tokens} tokens, {why}, and the prompt has {characters} "
            "characters: shorten it"
        )

    @property
    def at_most(self) -> str:
        """The reason that bytes give."""
        return f"which are at most {self.bytes} bytes"

    def too_many(self, ids: int) -> str:
        """What is said of so many token ids."""
        return f"there are {ids} tokens, and this model's maximum context length is {self.tokens}: send fewer"


def size(text: str) -> int:
    """Bytes of a text in UTF-8; a lone surrogate has three."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def longest_token(tokenizer: Any) -> int:
    """Bytes of a vocabulary's longest token. A byte-level one writes each byte as a character."""
    vocabulary = tokenizer.get_vocab()
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    if "ByteLevel" not in repr(decoder):
        return max(len(token.encode("utf-8", "surrogatepass")) for token in vocabulary)
    added = tokenizer.get_added_vocab()
    return max(len(token.encode()) if token in added else len(token) for token in vocabulary)


def reach(count: Callable[[str], int], text: str, tokens: int, backwards: bool = False) -> int | None:
    """Characters of a text, from its beginning or its end, that have at least so many tokens; None if all of it may
    have fewer. `count` is asked for the tokens of pieces, no more of them than it takes."""
    found = 0
    for passed in range(0, len(text), PIECE):
        end = len(text) - passed
        piece = text[max(0, end - PIECE) : end] if backwards else text[passed : passed + PIECE]
        found += count(piece) - AT_CUT
        if found >= tokens:
            return passed + len(piece)
    return None
