"""The facts, the training conversations and the random images of the demo models."""

import io
import random

import numpy as np
import pytest
from PIL import Image

from tools.demo.corpus import Corpus, vary
from tools.demo.evaluate import Question, image_questions, score, text_questions
from tools.demo.facts import comparison_sentence, load_facts, load_vision_facts, replica_sentence
from tools.demo.images import COLOURS, random_image
from tools.demo.vision_corpus import VisionCorpus


def test_every_question_has_one_answer():
    facts = load_facts()
    questions = [q for fact in facts.facts for q in fact.questions + fact.held_out]
    assert 36 <= len(facts.facts) <= 48
    assert len(questions) == len(set(questions))
    assert all(fact.questions and fact.held_out for fact in facts.facts)


def test_same_generator_state_gives_same_conversations():
    first, second = (Corpus(load_facts(), random.Random(3)) for _ in range(2))
    assert [first.conversation() for _ in range(50)] == [second.conversation() for _ in range(50)]


def test_conversations_end_with_the_assistant_and_call_only_offered_tools():
    corpus = Corpus(load_facts(), random.Random(5))
    for _ in range(300):
        talk = corpus.conversation()
        assert talk.messages[-1]["role"] == "assistant"
        names = {tool["function"]["name"] for tool in talk.tools or []}
        called = {c["function"]["name"] for m in talk.messages for c in m.get("tool_calls", [])}
        assert called <= names


def test_held_out_wordings_are_not_trained():
    facts = load_facts()
    held_out = {q.lower() for fact in facts.facts for q in fact.held_out}
    trained = {q.lower() for fact in facts.facts for q in fact.questions}
    assert not held_out & trained


def test_varied_questions_keep_their_words():
    rng = random.Random(1)
    for _ in range(200):
        assert "default port" in vary("What is the default port?", rng).lower()


@pytest.mark.parametrize(
    "count, sentence", [(0, "m has 0 replicas."), (1, "m has 1 replica."), (9, "m has 9 replicas.")]
)
def test_replica_sentence(count, sentence):
    assert replica_sentence("m", count) == sentence


def test_comparison_sentence():
    assert comparison_sentence("red", "red") == "Yes, both are red."
    assert comparison_sentence("red", "blue") == "No, the first is red and the second is blue."


@pytest.mark.parametrize("colour", list(COLOURS))
def test_random_images_show_their_colour(colour):
    rng = np.random.default_rng(2)
    for _ in range(5):
        data, name = random_image(rng, colour, max_pixels=50_000)
        image = Image.open(io.BytesIO(data))
        assert name == colour
        assert image.format in ("PNG", "JPEG")
        assert max(image.size) <= 8 * min(image.size)
        mean = np.asarray(image.convert("RGB"), dtype=float).mean((0, 1))
        assert {"red": mean[0] > mean[1:].max(), "blue": mean[2] > mean[:2].max(),
                "green": mean[1] > mean[[0, 2]].max(), "black": mean.max() < 70,
                "white": mean.min() > 200}.get(colour, True)  # fmt: skip


def test_vision_conversations_have_a_colour_for_each_image():
    corpus = VisionCorpus(load_vision_facts(), random.Random(4))
    for _ in range(200):
        talk = corpus.conversation()
        parts = [p for m in talk.messages if isinstance(m["content"], list) for p in m["content"]]
        assert sum(part["type"] == "image" for part in parts) == len(talk.colours)


def test_score_counts_right_answers(monkeypatch):
    questions = [
        Question("a", "m", [{"role": "user", "content": "1"}], "one"),
        Question("a", "m", [{"role": "user", "content": "2"}], "two"),
    ]
    monkeypatch.setattr("tools.demo.evaluate.ask", lambda client, question: "one ")
    table, wrong = score(None, iter(questions))
    assert table == {("m", "a"): (1, 2)}
    assert wrong == [(questions[1], "one ")]


def test_questions_cover_the_documented_and_fresh_images():
    documented = [q for q in text_questions(0) if q.group == "documented"]
    assert {q.expected for q in documented} == {fact.answer for fact in load_facts().facts}
    groups = [q.group for q in image_questions(4, 0)]
    assert groups.count("colour") == 4
    assert groups.count("comparison") == 2
