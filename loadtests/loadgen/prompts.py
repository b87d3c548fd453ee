"""Texts of a wanted length that no cache has seen."""

from __future__ import annotations

from random import Random

COMMON = """
time year people way day man thing woman life child world school state family student group country problem hand
part place case week company system program question work number night point home water room mother area money story
fact month lot right study book eye job word business issue side kind head house service friend father power hour
game line end member law car city name team minute idea body back parent face level office door health person art
war history party result change morning reason research girl guy moment air teacher force education
"""
WORDS = COMMON.split()
MATERIAL_CHARACTERS = 400_000


class Prose:
    """Writes prompts of random English words."""

    def __init__(self, seed: int, characters_per_token: float) -> None:
        rng = Random(seed)
        words: list[str] = []
        size = 0
        while size < MATERIAL_CHARACTERS:
            words.append(rng.choice(WORDS))
            size += len(words[-1]) + 1
        self._material = " ".join(words)
        self._characters_per_token = characters_per_token

    def write(self, rng: Random, tokens: int) -> str:
        """A text of about so many tokens; its first words are its own, so that no cache has them."""
        size = max(1, round(tokens * self._characters_per_token))
        head = " ".join(rng.choices(WORDS, k=4)) + " "
        if size <= len(head):
            return head[:size]
        pieces, left = [head], size - len(head)
        while left > 0:
            start = rng.randrange(len(self._material) // 2)
            pieces.append(self._material[start : start + left])
            left -= len(pieces[-1])
        return "".join(pieces)
