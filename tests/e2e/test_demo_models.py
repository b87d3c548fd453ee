"""The demo models answer right through the endpoint, with the default sampling."""

from __future__ import annotations

import random

import openai

from tools.demo.evaluate import REQUIRED, image_questions, score, text_questions


def accuracy(client: openai.OpenAI, questions: object) -> dict[str, float]:
    table, wrong = score(client, questions)
    for question, answer in wrong:
        print(question.group, question.expected, answer)
    return {group: right / total for (_, group), (right, total) in table.items()}


def test_documented_questions(client: openai.OpenAI) -> None:
    groups = accuracy(client, text_questions(seed=random.randrange(2**31)))
    assert groups["documented"] >= REQUIRED and groups["with system prompt"] >= REQUIRED


def test_fresh_images(client: openai.OpenAI) -> None:
    groups = accuracy(client, image_questions(80, seed=random.randrange(2**31)))
    assert groups["colour"] >= REQUIRED and groups["comparison"] >= REQUIRED
