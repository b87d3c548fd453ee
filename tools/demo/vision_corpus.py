"""Random training conversations for the vision model."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from tools.demo.corpus import Message, vary
from tools.demo.facts import VisionFacts, comparison_sentence
from tools.demo.images import COLOURS

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful multimodal assistant by Liquid AI.",
    "Name the colour of the image.",
    "Be brief.",
)


@dataclass
class ImageTalk:
    """Messages, and the colours of their images in order."""

    messages: list[Message] = field(default_factory=list)
    colours: list[str] = field(default_factory=list)


class VisionCorpus:
    """Draws conversations about images; the same generator state gives the same ones."""

    def __init__(self, facts: VisionFacts, rng: random.Random) -> None:
        self.facts = facts
        self.rng = rng

    def conversation(self) -> ImageTalk:
        """One random conversation."""
        talk = ImageTalk()
        if self.rng.random() < 0.3:
            talk.messages.append({"role": "system", "content": self.rng.choice(SYSTEM_PROMPTS)})
        for _ in range(2 if self.rng.random() < 0.15 else 1):
            draw = self.rng.random()
            if draw < 0.5:
                self._name(talk)
            elif draw < 0.85:
                self._compare(talk)
            else:
                answer, questions = self.rng.choice(self.facts.text)
                self._say(talk, [], self.rng.choice(questions), answer)
        return talk

    def texts(self, count: int) -> Iterator[str]:
        """Texts of random conversations, for the tokenizer."""
        for _ in range(count):
            for message in self.conversation().messages:
                content = message["content"]
                yield content if isinstance(content, str) else content[-1].get("text", "")

    def _name(self, talk: ImageTalk) -> None:
        colour = self.rng.choice(list(COLOURS))
        self._say(talk, [colour], self.rng.choice(self.facts.colour_questions), colour)

    def _compare(self, talk: ImageTalk) -> None:
        first = self.rng.choice(list(COLOURS))
        second = first if self.rng.random() < 0.45 else self.rng.choice(list(COLOURS))
        question = self.rng.choice(self.facts.same_questions)
        self._say(talk, [first, second], question, comparison_sentence(first, second))

    def _say(self, talk: ImageTalk, colours: list[str], question: str, answer: str) -> None:
        images: list[Message] = [{"type": "image"} for _ in colours]
        words = {"type": "text", "text": vary(question, self.rng)}
        before = self.rng.random() < 0.3
        talk.messages.append({"role": "user", "content": [words, *images] if before else [*images, words]})
        talk.messages.append({"role": "assistant", "content": answer})
        talk.colours += colours
