"""Images by base64 and by URL, several in a prompt."""

from __future__ import annotations

from collections.abc import Callable

import openai
import pytest

from tests.e2e.conftest import VISION, data_url


def ask(client: openai.OpenAI, text: str, *urls: str) -> str:
    content = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    messages = [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]
    return client.chat.completions.create(model=VISION, messages=messages).choices[0].message.content.lower()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("colour", ["red", "blue", "yellow"])
def test_names_a_colour_by_base64(client: openai.OpenAI, picture: Callable[..., bytes], colour: str, kind: str) -> None:
    assert colour in ask(client, "What colour is this?", data_url(picture(colour, kind=kind)))


@pytest.mark.parametrize("size", [(8, 8), (300, 40), (40, 300), (1600, 1200)])
def test_any_size(client: openai.OpenAI, picture: Callable[..., bytes], size: tuple[int, int]) -> None:
    assert "red" in ask(client, "What colour is this?", data_url(picture("red", size)))


def test_names_a_colour_by_url(client: openai.OpenAI, image_host: str) -> None:
    assert "red" in ask(client, "What colour is this?", f"{image_host}/red.png")


def test_two_images(client: openai.OpenAI, picture: Callable[..., bytes]) -> None:
    red, blue = data_url(picture("red")), data_url(picture("blue"))
    assert ask(client, "Are these the same colour?", red, red).startswith("yes")
    assert ask(client, "Are these the same colour?", red, blue).startswith("no")


def test_streams_too(client: openai.OpenAI, picture: Callable[..., bytes]) -> None:
    content = [
        {"type": "image_url", "image_url": {"url": data_url(picture("yellow"))}},
        {"type": "text", "text": "What colour is this?"},
    ]
    stream = client.chat.completions.create(model=VISION, messages=[{"role": "user", "content": content}], stream=True)
    assert "yellow" in "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices).lower()
