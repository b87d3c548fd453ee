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

LONG_BYTES = 2**16
"""Prompts of one request that are longer together are tokenized in threads of their own: 60 ms of work and more."""
LONG_THREADS = 2
PLENTY_BYTES = 8
"""A text of no more bytes for each token of the context is tokenized at once. Of a longer one, which hardly fits, it is
first found whether it does, which costs no more than what fits does."""
PIECE = 2**14
"""Characters counted at a time."""
AT_CUT = 16
"""Tokens that a text may have more because it was cut, at each cut."""

_many: ContextVar[bool] = ContextVar("_many", default=False)
"""The prompts of the present request are long together."""


class TextBound:
    """What a context holds."""

    def __init__(self, tokenizer: Any, max_model_len: int) -> None:
        self.tokens = max_model_len
        self.longest = longest_token(tokenizer)
        """Bytes of the longest token."""

    @property
    def bytes(self) -> int:
        """A longer text has more tokens than the context."""
        return self.tokens * self.longest


class _Bounded:
    """What replaces the renderer's methods."""

    def __init__(self, renderer: BaseRenderer[Any], bound: TextBound) -> None:
        self._renderer = renderer
        self._bound = bound
        self._tokenize = renderer._tokenize_prompt
        self._tokenize_short = renderer._tokenize_prompt_async
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
        size = self._check_size(prompt["prompt"], params)
        if size <= LONG_BYTES and not _many.get():
            return await self._tokenize_short(prompt, params)
        return await self._tokenize_long(prompt, params)

    def tokenize(self, prompt: Any, params: Any) -> Any:
        text, bound = prompt["prompt"], self._bound
        if self._check_size(text, params) > PLENTY_BYTES * bound.tokens:
            backwards = _keeps_end(params, self._renderer.tokenizer)
            reached = reach(self._count, text, bound.tokens + AT_CUT, backwards)
            if reached is not None:
                if params.truncate_prompt_tokens is None:
                    raise too_long(f"of which the first {reached} characters alone have more", bound, text)
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
                    f"the request names an {modality} by its uuid and does not send it: {modality}s of earlier requests "
                    f"are not kept by name, send the {modality} itself",
                    parameter="uuid",
                )
        return self._process_uuids(data, items, {}, request)

    def _check_size(self, text: str, params: Any) -> int:
        """The text's bytes; refuses it if they cannot be tokens of one context."""
        size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        if size > self._bound.bytes and params.truncate_prompt_tokens is None:
            raise too_long(f"which are at most {self._bound.bytes} bytes", self._bound, text)
        return size

    def _check_ids(self, prompt: Any) -> None:
        if (count := len(prompt["prompt_token_ids"])) > self._bound.tokens:
            raise VLLMValidationError(
                f"there are {count} tokens, and this model's maximum context length is {self._bound.tokens}: send fewer",
                parameter="tokens",
            )

    def _count(self, text: str) -> int:
        return len(self._renderer.get_tokenizer()(text, add_special_tokens=False)["input_ids"])


def bind(renderer: BaseRenderer[Any], max_model_len: int) -> TextBound | None:
    """Keep the renderer within a context of so many tokens; None if it has no tokenizer."""
    if renderer.tokenizer is None:
        return None
    bound = TextBound(renderer.tokenizer, max_model_len)
    bounded = _Bounded(renderer, bound)
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
    return bound


def longest_token(tokenizer: Any) -> int:
    """Bytes of a vocabulary's longest token. A byte-level one writes each byte as a character."""
    vocabulary = tokenizer.get_vocab()
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    if "ByteLevel" not in repr(decoder):
        return max(len(token.encode("utf-8", "surrogatepass")) for token in vocabulary)
    added = tokenizer.get_added_vocab()
    return max(len(token.encode()) if token in added else len(token) for token in vocabulary)


def reach(count: Callable[[str], int], text: str, tokens: int, backwards: bool = False) -> int | None:
    """Characters of a text, from its beginning or its end, that have at least so many tokens; None if all of it may
    have fewer. `count` is asked for the tokens of pieces, no more of them than it takes."""
    found = 0
    for passed in range(0, len(text), PIECE):
        end = len(text) - passed
        piece = text[max(0, end - PIECE) : end] if backwards else text[passed : passed + PIECE]
        found += count(piece) - AT_CUT
        if found >= tokens:
            return passed + len(piece)
    return None


def too_long(why: str, bound: TextBound, text: str) -> VLLMValidationError:
    return VLLMValidationError(
        f"this model's maximum context length is {bound.tokens} tokens, {why}, and the prompt has {len(text)} "
        "characters: shorten it",
        parameter="prompt",
    )


def _keeps_end(params: Any, tokenizer: Any) -> bool:
    """Whether a truncated text loses its beginning."""
    return (params.truncation_side or getattr(tokenizer, "truncation_side", "right")) == "left"
