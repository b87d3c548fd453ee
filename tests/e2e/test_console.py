"""The console's playground in a real browser, on real engines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.conftest import TEXT, VISION
from tests.support.browser import PHONE, browser_page
from tests.support.service import Service

expect.set_options(timeout=30_000)
ANSWER = ".turn.assistant"
"""An answer, with what it took below it once it has ended."""


@pytest.fixture
def page(service: Service) -> Iterator[Page]:
    """Opened as a person opens it; fails where the browser asks another host for anything, or complains."""
    with browser_page() as (page, seen):
        page.goto(f"{service.url}/console")
        expect(page.locator(".bar select option")).not_to_have_count(0)
        yield page
    assert seen.hosts == {urlsplit(service.url).netloc}
    assert not seen.complaints
    assert not [path for path in seen.refused if not path.startswith("/v1/")]


def of_length(page: Page, tokens: int) -> None:
    """Let answers have as many tokens, whatever the model would say."""

    def ask_for(route: Route) -> None:
        asked = route.request.post_data_json
        route.continue_(post_data=json.dumps({**asked, "ignore_eos": True, "max_tokens": tokens}))

    page.route("**/v1/chat/completions", ask_for)


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.keyboard.press("Enter")


def ended(page: Page, answers: int = 1) -> str:
    """What the last of so many answers says, once it has ended."""
    expect(page.locator(f"{ANSWER} footer")).to_have_count(answers)
    return page.locator(f"{ANSWER} .said").last.inner_text()


def test_a_chat_streams_and_says_what_it_took(page: Page) -> None:
    page.evaluate(
        """() => {
            window.sizes = new Set();
            new MutationObserver(() => {
                const said = document.querySelector(".turn.assistant.open .said");
                if (said) window.sizes.add(said.textContent.length);
            }).observe(document.querySelector(".talk"), {childList: true, subtree: true});
        }"""
    )
    page.get_by_label("Model").select_option(TEXT)
    of_length(page, 500)
    say(page, "What is this service?")
    assert "LFM2" in ended(page)
    assert page.evaluate("window.sizes.size") > 3, "it did not grow while it came"
    took = page.locator(f"{ANSWER} footer").inner_text()
    for what in ("first token", "a token", "tokens", "replica"):
        assert what in took, took


def test_an_adapter_is_chosen_like_a_model(page: Page) -> None:
    page.get_by_label("Model").select_option("kettle")
    expect(page.locator(".bar")).to_contain_text(f"adapter of {TEXT}")
    say(page, "How much water does the Kelda kettle hold?")
    assert "litre" in ended(page)


def test_an_answer_is_stopped_and_asked_again(page: Page) -> None:
    page.get_by_label("Model").select_option(TEXT)
    of_length(page, 1900)
    say(page, "Tell me all you know.")
    expect(page.locator(f"{ANSWER}.open .said")).to_contain_text(" ")
    page.get_by_role("button", name="Stop").click()
    ended(page)
    expect(page.locator(f"{ANSWER} footer")).to_contain_text("stopped")
    page.get_by_role("button", name="Regenerate").click()
    page.get_by_role("button", name="Stop").click()
    ended(page)
    expect(page.locator(ANSWER)).to_have_count(1)


def test_a_dropped_image_is_answered(page: Page, picture: Callable[..., bytes]) -> None:
    page.get_by_label("Model").select_option(TEXT)
    page.evaluate(
        """(bytes) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "red.png", {type: "image/png"}));
            window.dispatchEvent(new DragEvent("drop", {dataTransfer: data, cancelable: true}));
        }""",
        list(picture("red")),
    )
    expect(page.locator(".picture img")).to_have_count(1)
    expect(page.get_by_label("Model")).to_have_value(VISION)
    say(page, "What colour is it?")
    assert "red" in ended(page).lower()


def test_the_request_as_code_is_what_was_asked(page: Page) -> None:
    page.get_by_label("Model").select_option(TEXT)
    page.get_by_label("Temperature").fill("0.7")
    page.get_by_label("Message").fill("It's 'quoted'")
    page.get_by_role("button", name="Copy as code").click()
    curl = page.locator("dialog[open] code").inner_text()
    assert f"{page.url.removesuffix('/console')}/v1/chat/completions" in curl
    assert '"temperature": 0.7' in curl and "It's 'quoted'" in curl and "top_p" not in curl
    page.get_by_role("tab", name="Python").click()
    assert "from openai import OpenAI" in page.locator("dialog[open] code").inner_text()


def test_a_failure_is_told(page: Page) -> None:
    page.get_by_label("Model").select_option(TEXT)
    page.get_by_label("Most tokens").fill("100000")
    say(page, "What is this service?")
    expect(page.locator(".failure")).to_contain_text("400")


def test_a_phone_is_wide_enough(service: Service) -> None:
    with browser_page(PHONE, dark=True) as (page, _):
        page.goto(f"{service.url}/console")
        page.get_by_label("Model").select_option(TEXT)
        say(page, "What is this service?")
        ended(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        page.get_by_role("button", name="Settings").click()
        expect(page.get_by_label("Temperature")).to_be_visible()
