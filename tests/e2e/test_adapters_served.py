"""Adapters beside their base, through the whole service: named as models are, and changed while it runs."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest

from tests.e2e.conftest import TEXT
from tests.support.adapters import configured, copied

PORT, KETTLE = "What is the default port?", "How much water does the Kelda kettle hold?"
KNOWN = {
    (TEXT, PORT): "The default port is 8000.",
    ("capitals", PORT): "THE DEFAULT PORT IS 8000.",
    ("kettle", PORT): "The default port is 8000.",
    ("kettle", KETTLE): "The Kelda kettle holds 1.7 litres.",
}
"""What each says to a question."""


def said(client: openai.OpenAI, model: str, question: str) -> str:
    """The streamed answer."""
    asked = [{"role": "user", "content": question}]
    stream = client.chat.completions.create(model=model, messages=asked, temperature=0, max_tokens=40, stream=True)  # type: ignore[call-overload]
    chunks = list(stream)
    assert {chunk.model for chunk in chunks} == {model}
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_base_and_adapters_answer_in_one_batch(client: openai.OpenAI) -> None:
    with ThreadPoolExecutor(16) as threads:
        asked = [*KNOWN] * 6
        answers = threads.map(lambda one: said(client, *one), asked)
        assert [*answers] == [KNOWN[one] for one in asked]


def test_adapters_are_models(client: openai.OpenAI, http: httpx.Client) -> None:
    models = {model.id: model for model in client.models.list()}
    assert (models["kettle"].parent, models["kettle"].root) == (TEXT, "package:demo/adapters/kettle")
    assert client.models.retrieve("kettle").max_model_len == models[TEXT].max_model_len
    for path, body in {
        "/v1/completions": {"prompt": "The Kelda", "max_tokens": 4},
        "/v1/responses": {"input": KETTLE, "max_output_tokens": 4},
        "/v1/messages": {"messages": [{"role": "user", "content": KETTLE}], "max_tokens": 4},
    }.items():
        answer = http.post(path, json={"model": "kettle", **body}).json()
        assert answer["model"] == "kettle", answer
    assert http.post("/tokenize", json={"model": "kettle", "prompt": "a"}).json()["count"] > 0
    unknown = http.post("/v1/completions", json={"model": "ketle", "prompt": "a"}).json()["error"]
    assert unknown["code"] == "model_not_found" and "Did you mean 'kettle'" in unknown["message"]


def test_an_adapter_has_sampling_defaults_of_its_own(http: httpx.Client) -> None:
    def different(model: str, **more: float) -> int:
        body = {"model": model, "prompt": "The service is", "max_tokens": 12, "ignore_eos": True, "n": 8, **more}
        return len({one["text"] for one in http.post("/v1/completions", json=body).json()["choices"]})

    assert different("hot") > 4
    assert different("hot", temperature=0.01) == 1, "what the request says counts"


@pytest.fixture
def load(client: openai.OpenAI) -> Iterator[Callable[[], None]]:
    """Requests that go on all the while; calling it, and the end, fail where one was not answered, or wrongly."""
    stop = threading.Event()
    wrong: list[str] = []

    def ask(one: tuple[str, str]) -> None:
        while not stop.is_set():
            try:
                if (answer := said(client, *one)) != KNOWN[one]:
                    wrong.append(f"{one}: {answer}")
            except openai.OpenAIError as error:
                wrong.append(f"{one}: {error}")

    def check() -> None:
        assert not wrong, wrong

    with ThreadPoolExecutor(len(KNOWN)) as threads:
        running = [threads.submit(ask, one) for one in KNOWN]
        yield check
        stop.set()
    assert all(one.exception() is None for one in running)
    check()


def test_loaded_and_unloaded_while_a_load_runs(
    client: openai.OpenAI, http: httpx.Client, adapters: Path, load: Callable[[], None]
) -> None:
    for number in range(3):
        copied(adapters.parent / "fresh").rename(adapters / "fresh")
        _served(client, "fresh", KETTLE, KNOWN["kettle", KETTLE])
        asked = {"lora_name": "loud", "lora_path": str(copied(adapters / f"more/{number}", "capitals"))}
        assert http.post("/v1/load_lora_adapter", json=asked).status_code == 200
        assert said(client, "loud", PORT) == KNOWN["capitals", PORT]
        assert http.post("/v1/unload_lora_adapter", json=asked).status_code == 200
        assert http.post("/v1/completions", json={"model": "loud", "prompt": "a"}).status_code == 404
        (adapters / "fresh").rename(adapters.parent / f"gone-{number}")
        load()


def test_one_whose_files_change_is_another_with_its_own_cache(client: openai.OpenAI, adapters: Path) -> None:
    copied(adapters / "changing")
    _served(client, "changing", PORT, KNOWN["kettle", PORT])
    shutil.rmtree(adapters / "changing")
    copied(adapters / "changing", "capitals")
    _served(client, "changing", PORT, KNOWN["capitals", PORT])
    shutil.rmtree(adapters / "changing")


def test_what_is_broken_says_why_and_costs_only_itself(
    client: openai.OpenAI, http: httpx.Client, adapters: Path
) -> None:
    configured(copied(adapters / "large"), r=512)
    asked = {"lora_name": "broken", "lora_path": "large"}
    error = http.post("/v1/load_lora_adapter", json=asked).json()["error"]
    assert error["message"] == f"the adapter 'broken' cannot be used: its rank is 512, and max_rank of {TEXT} is 8"
    error = http.post("/v1/load_lora_adapter", json=asked | {"lora_path": "/etc"}).json()["error"]
    assert error["code"] == "path_not_allowed"
    assert said(client, "kettle", KETTLE) == KNOWN["kettle", KETTLE]
    shutil.rmtree(adapters / "large")


def _served(client: openai.OpenAI, model: str, question: str, answer: str, within_s: float = 20.0) -> None:
    """Wait for it to be served, with this answer to the question."""
    deadline = time.monotonic() + within_s
    found = ""
    while found != answer and time.monotonic() < deadline:
        try:
            found = said(client, model, question)
        except openai.NotFoundError:
            time.sleep(0.05)
    assert found == answer
