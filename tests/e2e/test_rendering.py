"""vLLM's renderer within bounds, with a real tokenizer and image processor, without an engine."""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from vllm.engine.arg_utils import EngineArgs
from vllm.exceptions import VLLMValidationError
from vllm.renderers import TokenizeParams, renderer_from_config

import serve_app
from serve_app.engine import rendering
from serve_app.engine.context import longest_token

DEMO = Path(serve_app.__file__).parent / "demo"
TOKENS = 1024
UNBOUND = TokenizeParams(max_total_tokens=None)


def renderer_of(name: str) -> Any:
    args = EngineArgs(model=str(DEMO / name), max_model_len=TOKENS, enforce_eager=True)
    return renderer_from_config(args.create_engine_config())


@pytest.fixture(scope="module")
def plain() -> Any:
    return renderer_of("lfm2-vl-demo")


@pytest.fixture(scope="module")
def bound() -> Any:
    renderer = renderer_of("lfm2-vl-demo")
    context = rendering.bind(renderer, TOKENS)
    assert (context.tokens, context.longest) == (TOKENS, longest_token(renderer.tokenizer))
    return renderer


def tokens(renderer: Any, text: str, params: TokenizeParams = UNBOUND) -> list[int]:
    async def run() -> list[int]:
        (prompt,) = await renderer.tokenize_prompts_async([{"prompt": text}], params)
        return prompt["prompt_token_ids"]

    return asyncio.run(run())


def words(count: int) -> str:
    rng = random.Random(count)
    return " ".join(rng.choice(["hello", "service", "Ω", "日本", "\n", "  ", "🙂", "x" * 30]) for _ in range(count))


@pytest.mark.parametrize("text", ["", "a", words(100), "a" * 900, words(120)], ids=len)
def test_what_fits_is_tokenized_as_before(plain: Any, bound: Any, text: str) -> None:
    assert tokens(bound, text) == tokens(plain, text)


@pytest.mark.parametrize(
    "text",
    [words(9000), "a" * 20_000, " " * 2**20, "日本" * 2**20, "hello " * (8 * 2**20 // 6)],
    ids=["words", "letters", "spaces", "kanji", "8 MiB"],
)
def test_what_cannot_fit_is_refused_with_both_numbers(bound: Any, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = 0
    count = rendering._Bounded._count

    def counting(self: Any, piece: str) -> int:
        nonlocal counted
        counted += len(piece)
        return count(self, piece)

    monkeypatch.setattr(rendering._Bounded, "_count", counting)
    with pytest.raises(VLLMValidationError) as refused:
        tokens(bound, text)
    assert str(TOKENS) in str(refused.value) and str(len(text)) in str(refused.value)
    assert counted <= 2 * 2**14, "no more is tokenized than a context holds"


@pytest.mark.parametrize("side", ["left", "right", None])
@pytest.mark.parametrize("keep", [10, -1])
def test_a_long_text_is_truncated_to_the_same_tokens(plain: Any, bound: Any, side: Any, keep: int) -> None:
    text = words(20_000)
    params = TokenizeParams(TOKENS, max_output_tokens=1, truncate_prompt_tokens=keep, truncation_side=side)
    got = tokens(bound, text, params)
    assert len(got) == (TOKENS - 1 if keep == -1 else keep) and got == tokens(plain, text, params)


def test_more_ids_than_the_context_has_are_not_detokenized(bound: Any) -> None:
    params = TokenizeParams(max_total_tokens=None, needs_detokenization=True)
    ids = list(range(80, 90)) * 100
    assert asyncio.run(bound.tokenize_prompt_async({"prompt_token_ids": ids}, params))["prompt"]
    with pytest.raises(VLLMValidationError, match=r"2000 tokens.*1024"):
        asyncio.run(bound.tokenize_prompt_async({"prompt_token_ids": ids * 2}, params))


@pytest.mark.parametrize("prompts", [[words(3000)], ["hello " * 500] * 40], ids=["one long", "many"])
def test_a_short_text_is_tokenized_while_long_ones_are_at_work(prompts: list[str], monkeypatch: Any) -> None:
    renderer = renderer_of("lfm2-demo")
    at_work, go = threading.Event(), threading.Event()
    tokenize = renderer._tokenize_prompt

    def held(prompt: Any, params: Any) -> Any:
        if prompt["prompt"] != "short":
            at_work.set()
            assert go.wait(30)
        return tokenize(prompt, params)

    renderer._tokenize_prompt = held
    monkeypatch.setattr(rendering, "LONG_BYTES", 10_000)
    rendering.bind(renderer, 10**6)

    async def run() -> None:
        long = asyncio.create_task(renderer.tokenize_prompts_async([{"prompt": text} for text in prompts], UNBOUND))
        await asyncio.to_thread(at_work.wait, 30)
        async with asyncio.timeout(30):
            (short,) = await renderer.tokenize_prompts_async([{"prompt": "short"}], UNBOUND)
        assert short["prompt_token_ids"] and not long.done()
        go.set()
        assert len(await long) == len(prompts)

    asyncio.run(run())


def test_an_image_is_known_by_its_content_whatever_it_is_called(bound: Any) -> None:
    def hashes(*images: Any, uuid: str | None) -> Any:
        prompt = bound.tokenizer("<image>" * len(images))["input_ids"]
        made = bound._process_multimodal(prompt, {"image": list(images)}, {"image": [uuid] * len(images)}, None)
        return made["mm_hashes"]["image"]

    red, blue = (Image.new("RGB", (32, 32), colour) for colour in ("red", "blue"))
    assert hashes(red, uuid="u1") != hashes(blue, uuid="u1")
    assert hashes(red, uuid="u1") == hashes(red, uuid="u2") == hashes(red, uuid=None)
    with pytest.raises(VLLMValidationError, match="uuid"):
        hashes(None, uuid="u1")
    with pytest.raises(VLLMValidationError, match="uuid"):
        hashes(red, None, uuid="u1")
