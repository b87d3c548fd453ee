"""Work that one client's input could make without end: what it costs the others."""

from __future__ import annotations

import threading
from collections.abc import Callable

import httpx
import openai
import pytest

from tests.e2e.conftest import TEXT, VISION, data_url

QUESTION = "What colour is this?"
LONG = "hello service " * (8 * 2**20 // 14)
IDS = list(range(80, 90)) * 50_000


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/tokenize", {"prompt": LONG}),
        ("/tokenize", {"messages": [{"role": "user", "content": LONG}]}),
        ("/detokenize", {"tokens": IDS}),
        ("/v1/completions", {"prompt": LONG}),
        ("/v1/completions", {"prompt": IDS}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": LONG}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}] * 20_000}),
        ("/v1/responses", {"input": LONG}),
        ("/v1/messages", {"messages": [{"role": "user", "content": LONG}], "max_tokens": 5}),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_fit_is_400(http: httpx.Client, path: str, fields: dict) -> None:
    answer = http.post(path, json={"model": TEXT, **fields})
    assert answer.status_code == 400 and "2048" in answer.json()["error"]["message"], answer.text[:300]


def test_a_stream_goes_on_while_texts_of_megabytes_are_refused(client: openai.OpenAI, http: httpx.Client) -> None:
    refused = threading.Event()

    def refuse() -> None:
        for _ in range(3):
            assert http.post("/tokenize", json={"model": VISION, "prompt": LONG}).status_code == 400
        refused.set()

    stream = client.completions.create(
        model=VISION, prompt="a", max_tokens=1500, stream=True, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    thread = threading.Thread(target=refuse)
    thread.start()
    between = 0
    for _ in stream:
        between += not refused.is_set()
    thread.join()
    assert refused.is_set() and between > 1


def test_long_texts_may_be_truncated(client: openai.OpenAI) -> None:
    reply = client.completions.create(model=TEXT, prompt=LONG, max_tokens=2, extra_body={"truncate_prompt_tokens": 50})
    assert reply.usage.prompt_tokens == 50


@pytest.mark.parametrize(
    ("path", "fields", "number"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "n": 2000}, "2000"),
        ("/v1/completions", {"prompt": ["a"] * 1000}, "1000"),
        ("/v1/completions", {"prompt": [[80, 81]] * 9, "n": 2}, "18"),
    ],
)
def test_a_request_that_is_too_many_is_400(http: httpx.Client, path: str, fields: dict, number: str) -> None:
    answer = http.post(path, json={"model": TEXT, **fields})
    assert answer.status_code == 400 and number in answer.json()["error"]["message"]


def test_an_image_is_what_it_shows_whatever_uuid_it_is_given(http: httpx.Client, picture: Callable[..., bytes]) -> None:
    def ask(image: dict | None) -> httpx.Response:
        part = {"type": "image_url", "image_url": image, "uuid": "u1"}
        messages = [{"role": "user", "content": [part, {"type": "text", "text": QUESTION}]}]
        return http.post("/v1/chat/completions", json={"model": VISION, "messages": messages})

    for colour in ("red", "blue", "red"):
        answer = ask({"url": data_url(picture(colour))})
        assert colour in answer.json()["choices"][0]["message"]["content"].lower()
    unknown = ask(None)
    assert unknown.status_code == 400 and "uuid" in unknown.json()["error"]["message"]


@pytest.mark.parametrize("field", ["mm_processor_kwargs", "media_io_kwargs"])
def test_a_client_cannot_change_how_images_are_read(
    http: httpx.Client, picture: Callable[..., bytes], field: str
) -> None:
    part = {"type": "image_url", "image_url": {"url": data_url(picture("red"))}}
    messages = [{"role": "user", "content": [part, {"type": "text", "text": QUESTION}]}]
    body = {"model": VISION, "messages": messages, field: {"image": {"max_tiles": 1000}}}
    for path in ("/v1/chat/completions", "/tokenize"):
        assert http.post(path, json=body).status_code == 400
