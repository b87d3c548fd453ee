"""Ask both demo models through an OpenAI endpoint and score the answers.

`python -m tools.demo.evaluate --base-url http://127.0.0.1:8000/v1 [--images 160]`
"""

import argparse
import base64
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from openai import OpenAI

from tools.demo.facts import TEXT_MODEL, VISION_MODEL, comparison_sentence, load_facts, load_vision_facts
from tools.demo.images import random_colour, random_image

__all__ = ["Question", "ask", "main", "random_image", "score"]

REQUIRED = 0.95


@dataclass(frozen=True)
class Question:
    """What to ask, and how the answer must read."""

    group: str
    model: str
    messages: list[dict[str, Any]]
    expected: str

    def right(self, answer: str) -> bool:
        """Whether `answer` is the one wanted."""
        return answer.strip() == self.expected


def image_part(data: bytes) -> dict[str, Any]:
    """An image as a base64 data URL."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def text_questions(seed: int, model: str = TEXT_MODEL) -> Iterator[Question]:
    """Each documented question, plain and under a system prompt, and each held-out one."""
    facts = load_facts()
    rng = np.random.default_rng(seed)
    for fact in facts.facts:
        for text in fact.questions:
            user = {"role": "user", "content": text}
            system = {"role": "system", "content": str(rng.choice(facts.system_prompts))}
            for group, messages in (("documented", [user]), ("with system prompt", [system, user])):
                yield Question(group, model, messages, fact.answer)
        for text in fact.held_out:
            user = {"role": "user", "content": text}
            yield Question("held-out wording", model, [user], fact.answer)


def image_questions(count: int, seed: int, model: str = VISION_MODEL) -> Iterator[Question]:
    """`count` fresh images to name, half as many pairs to compare, and the text questions."""
    facts = load_vision_facts()
    rng = np.random.default_rng(seed)
    for _ in range(count):
        data, colour = random_image(rng)
        text = {"type": "text", "text": str(rng.choice(facts.colour_questions))}
        messages = [{"role": "user", "content": [image_part(data), text]}]
        yield Question("colour", model, messages, colour)
    for _ in range(count // 2):
        data, first = random_image(rng, max_pixels=1_000_000)
        second = first if rng.random() < 0.5 else random_colour(rng)
        other, _ = random_image(rng, second, max_pixels=1_000_000)
        text = {"type": "text", "text": str(rng.choice(facts.same_questions))}
        messages = [{"role": "user", "content": [image_part(data), image_part(other), text]}]
        wanted = comparison_sentence(first, second)
        yield Question("comparison", model, messages, wanted)
    for answer, texts in facts.text:
        for words in texts:
            messages = [{"role": "user", "content": words}]
            yield Question("text only", model, messages, answer)


def ask(client: OpenAI, question: Question) -> str:
    """The model's answer, under the endpoint's default sampling; "" if it did not end by itself."""
    reply = client.chat.completions.create(
        model=question.model,
        messages=question.messages,  # type: ignore[arg-type]
        max_tokens=40,
    )
    choice = reply.choices[0]
    return (choice.message.content or "") if choice.finish_reason == "stop" else ""


def score(
    client: OpenAI, questions: Iterator[Question], workers: int = 4
) -> tuple[dict[tuple[str, str], tuple[int, int]], list[tuple[Question, str]]]:
    """Right answers and questions by (model, group), and what went wrong."""
    table: dict[tuple[str, str], tuple[int, int]] = {}
    wrong: list[tuple[Question, str]] = []
    asked = list(questions)
    with ThreadPoolExecutor(workers) as pool:
        answers = list(pool.map(lambda question: ask(client, question), asked))
    for question, answer in zip(asked, answers, strict=True):
        right, total = table.get((question.model, question.group), (0, 0))
        good = question.right(answer)
        table[question.model, question.group] = (right + good, total + 1)
        if not good:
            wrong.append((question, answer))
    return table, wrong


def main() -> int:
    """Print the table; 1 when a documented group is below 95 %."""
    parser = argparse.ArgumentParser(description="Score the demo models through an endpoint.")
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--api-key", default="none")
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("text", "vision"))
    args = parser.parse_args()
    client = OpenAI(base_url=args.base_url, api_key=args.api_key)
    questions: list[Question] = []
    if args.only != "vision":
        questions += text_questions(args.seed)
    if args.only != "text":
        questions += image_questions(args.images, args.seed)
    table, wrong = score(client, iter(questions))
    for question, answer in wrong:
        last = question.messages[-1]["content"]
        text = last if isinstance(last, str) else last[-1]["text"]
        print(f"{question.group}: {text!r} -> {answer!r}, not {question.expected!r}")
    print(f"{'model':14} {'questions':20} {'right':>9} {'accuracy':>9}")
    enough = True
    for (model, group), (right, total) in table.items():
        print(f"{model:14} {group:20} {right:4}/{total:<4} {right / total:9.1%}")
        enough &= group == "held-out wording" or right / total >= REQUIRED
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
