"""vLLM's renderer within bounds: what cannot fit in the context is refused before it is tokenized, what is long is
tokenized beside what is short, and an image is known by its content alone.

vLLM 0.32 tokenizes in one thread, in which an ordinary chat waits behind a text of megabytes; it tokenizes all of a
text whatever the context, for /tokenize and where it is to be truncated without any bound; and it takes the `uuid` a
client gives an image for that image's content, in caches that all clients share. Every route goes through the renderer
of its engine, so this is changed there, on the instance. The methods are vLLM's own affair and may move.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

from vllm.exceptions import VLLMValidationError
from vllm.renderers.base import BaseRenderer
from vllm.utils.async_utils import make_async

from serve_app.engine.context import AT_CUT, Context, longest_token, reach, size

LONG_BYTES = 2**16
"""Prompts of one request that are longer together are tokenized in threads of their own: 60 ms of work and more."""
LONG_THREADS = 2
PLENTY_BYTES = 8
"""A text of no more bytes for each token of the context is tokenized at once. Of a longer one, which hardly fits, it is
first found whether it does, which costs no more than what fits does."""
_many: ContextVar[bool] = ContextVar("_many", default=False)
"""The prompts of the present request are long together."""


class _Bounded:
    """What replaces the renderer's methods."""

    def __init__(self, renderer: BaseRenderer[Any], context: Context) -> None:
        self._renderer = renderer
        self._context = context
        self._tokenize = renderer._tokenize_prompt
        self._tokenize_short = make_async(self.tokenize, executor=renderer._executor)
        self._tokenize_prompts = renderer.tokenize_prompts_async
        self._detokenize = renderer._detokenize_prompt
        self._detokenize_async = renderer._detokenize_prompt_async
        self._process_uuids = renderer._process_mm_uuids
        threads = ThreadPoolExecutor(LONG_THREADS, thread_name_prefix="serve_app.long")
        renderer._resources.callback(threads.shutdown, wait=False)
        self._tokenize_long = make_async(self.tokenize, executor=threads)

    async def tokenize_prompts(self, prompts: Sequence[Any], params: Any) -> list[Any]:
        texts = (prompt.get("prompt") for prompt in prompts if "prompt_token_ids" not in prompt)
        token = _many.set(sum(len(text) for text in texts if isinstance(text, str)) > LONG_BYTES)
        try:
            return await self._tokenize_prompts(prompts, params)
        finally:
            _many.reset(token)

    async def tokenize_async(self, prompt: Any, params: Any) -> Any:
        length = self._check_size(prompt["prompt"], params)
        if length <= LONG_BYTES and not _many.get():
            return await self._tokenize_short(prompt, params)
        return await self._tokenize_long(prompt, params)

    def tokenize(self, prompt: Any, params: Any) -> Any:
        text, context = prompt["prompt"], self._context
        if self._check_size(text, params) > PLENTY_BYTES * context.tokens:
            backwards = _keeps_end(params, self._renderer.tokenizer)
            reached = reach(self._count, text, context.tokens + AT_CUT, backwards)
            if reached is not None:
                if params.truncate_prompt_tokens is None:
                    raise self._too_long(text, f"fewer than its first {reached} characters have")
                if not params.return_token_offsets:
                    prompt["prompt"] = text[-reached:] if backwards else text[:reached]
        return self._tokenize(prompt, params)

    def detokenize(self, prompt: Any) -> Any:
        self._check_ids(prompt)
        return self._detokenize(prompt)

    async def detokenize_async(self, prompt: Any) -> Any:
        self._check_ids(prompt)
        return await self._detokenize_async(prompt)

    def process_uuids(self, data: Mapping[str, Any], items: Any, uuids: Mapping[str, Any], request: str) -> Any:
        """By content alone: without the client's ids vLLM takes digests of what was sent."""
        for modality in data.keys() | uuids.keys():
            given = data.get(modality)
            if given is None or (isinstance(given, list) and any(item is None for item in given)):
                raise VLLMValidationError(
                    f"the request names an {modality} by its uuid and does not send it: those of earlier requests are "
                    f"not kept by name, send the {modality} itself",
                    parameter="uuid",
                )
        return self._process_uuids(data, items, {}, request)

    def _check_size(self, text: str, params: Any) -> int:
        """The text's bytes; refuses it if they cannot be tokens of one context."""
        length = size(text)
        if length > self._context.bytes and params.truncate_prompt_tokens is None:
            raise self._too_long(text, self._context.at_most)
        return length

    def _too_long(self, text: str, why: str) -> VLLMValidationError:
        return VLLMValidationError(self._context.too_long(why, len(text)), parameter="prompt")

    def _check_ids(self, prompt: Any) -> None:
        if (count := len(prompt["prompt_token_ids"])) > self._context.tokens:
            raise VLLMValidationError(self._context.too_many(count), parameter="tokens")

    def _count(self, text: str) -> int:
        return len(self._renderer.get_tokenizer()(text, add_special_tokens=False)["input_ids"])


def bind(renderer: BaseRenderer[Any], max_model_len: int) -> Context:
    """Keep the renderer within a context of so many tokens; what it holds."""
    context = Context(max_model_len, longest_token(renderer.get_tokenizer()))
    bounded = _Bounded(renderer, context)
    replaced: dict[str, Callable[..., Any]] = {
        "tokenize_prompts_async": bounded.tokenize_prompts,
        "_tokenize_prompt": bounded.tokenize,
        "_tokenize_prompt_async": bounded.tokenize_async,
        "_detokenize_prompt": bounded.detokenize,
        "_detokenize_prompt_async": bounded.detokenize_async,
        "_process_mm_uuids": bounded.process_uuids,
    }
    for name, method in replaced.items():
        setattr(renderer, name, method)
    return context


def _keeps_end(params: Any, tokenizer: Any) -> bool:
    """Whether a truncated text loses its beginning."""
    return (params.truncation_side or getattr(tokenizer, "truncation_side", "right")) == "left"
