"""Models in a few lines of Python, without a service: `LLM("configs/demo.yaml").chat(messages)`.

The shape is that of vLLM's offline `LLM`; behind it are all the replicas that the configuration has.
"""

from __future__ import annotations

import asyncio
import atexit
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, Literal

import msgspec

from serve_app.batch.client import Answer, NoAnswer
from serve_app.batch.local import LocalEngines
from serve_app.batch.send import Sender
from serve_app.config import ModelConfig, ServiceConfig
from serve_app.config_file import load
from serve_app.content import has_image, with_data_urls
from serve_app.sampling_params import SamplingParams, fields

Message = dict[str, Any]
Conversation = list[Message]
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
AHEAD = 1024
"""Requests handed over before the first of them is answered."""


@dataclass(frozen=True, slots=True)
class CompletionOutput:
    """One answer to a prompt."""

    index: int
    text: str
    finish_reason: str | None


@dataclass(frozen=True, slots=True)
class RequestOutput:
    """What came of one prompt."""

    request_id: str
    prompt: str | None
    """As given; None for a conversation, which the engine renders."""
    outputs: list[CompletionOutput]
    """As many as `n`; none where `error` says why."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    error: str | None = None


class RequestFailed(Exception):
    """A prompt the engine refuses, or gave no answer to. Its `index` is its place among the prompts."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"prompt {index}: {reason}")
        self.index = index


class LLM:
    """The engines of a configuration, for this process. A context manager; also closed when the process ends."""

    def __init__(self, config: str | Path | ServiceConfig, *, models: Sequence[str] | None = None, quiet: bool = False):
        """Starts the engines, on the Ray cluster that RAY_ADDRESS names or on one of their own, and waits for them.

        `models` starts only these. Raises ConfigError, and DidNotStart where an engine could not.
        """
        service = config if isinstance(config, ServiceConfig) else load(config).applications[0].config
        if models is not None:
            chosen = tuple(model for model in service.models if set(models).intersection(model.names))
            service = service.model_copy(update={"models": chosen})
        self._engines = LocalEngines(service, _silent if quiet else _say)
        self._engines.start()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="serve_app.LLM", daemon=True)
        self._thread.start()
        self._sender = self._call(self._open())
        atexit.register(self.close)

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the engines. Blocks; does nothing the second time."""
        if not self._loop.is_closed():
            atexit.unregister(self.close)
            self._call(self._sender.__aexit__())
            self._engines.stop()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def chat(
        self,
        messages: Conversation | Iterable[Conversation],
        sampling_params: Any = None,
        *,
        iterator: bool = False,
        **more: Any,
    ) -> list[RequestOutput] | Iterator[RequestOutput]:
        """Answer one conversation or any number of them; the results are in their order.

        `sampling_params` is a dict, a `SamplingParams` of this package or of vLLM, or a list with one for each.
        `iterator` gives the results as they come, and takes conversations from a generator as they are needed. An
        image is a part `{"type": "image", "image": ...}` (a PIL image, a path or a URL) or OpenAI's `image_url`.
        `model` names the model; unless given it is the first, or for an image the first that sees. With
        `errors="keep"` a prompt that fails has its `error` set; otherwise RequestFailed is raised in its place. Further
        keywords go into each request.
        """
        one = isinstance(messages, list) and bool(messages) and isinstance(messages[0], dict)
        conversations: Any = [messages] if one else messages
        bodies = ((None, {"messages": with_data_urls(turns)}) for turns in conversations)
        return self._run(CHAT, bodies, sampling_params, iterator, **more)

    def generate(
        self, prompts: str | Iterable[str], sampling_params: Any = None, *, iterator: bool = False, **more: Any
    ) -> list[RequestOutput] | Iterator[RequestOutput]:
        """Continue one text or any number of them, as they are; otherwise as `chat`."""
        texts = [prompts] if isinstance(prompts, str) else prompts
        bodies = ((text, {"prompt": text}) for text in texts)
        return self._run(COMPLETIONS, bodies, sampling_params, iterator, **more)

    def _run(
        self,
        url: str,
        bodies: Iterator[tuple[str | None, dict[str, Any]]],
        sampling_params: Any,
        iterator: bool,
        *,
        model: str | None = None,
        errors: Literal["raise", "keep"] = "raise",
        use_tqdm: bool = True,
        **extra: Any,
    ) -> list[RequestOutput] | Iterator[RequestOutput]:
        each = sampling_params if isinstance(sampling_params, list) else repeat(sampling_params)
        requests = (
            (prompt, {"model": model or self._suits(body), **body, **fields(params), **extra})
            for (prompt, body), params in zip(bodies, each, strict=False)
        )
        results = self._stream(url, requests, errors == "keep")
        if iterator:
            return results
        from tqdm import tqdm

        return list(tqdm(results, desc="prompts", unit="", disable=not (use_tqdm and sys.stderr.isatty())))

    def _stream(
        self, url: str, requests: Iterable[tuple[str | None, dict[str, Any]]], keep: bool
    ) -> Iterator[RequestOutput]:
        """The results in order. Whoever stops listening takes back what is not answered."""
        window: deque[tuple[int, str | None, Future[Answer | NoAnswer]]] = deque()
        try:
            for index, (prompt, body) in enumerate(requests):
                asked = self._sender.ask(url, msgspec.json.encode(body))
                window.append((index, prompt, asyncio.run_coroutine_threadsafe(asked, self._loop)))
                while window and (len(window) >= AHEAD or window[0][2].done()):
                    yield _output(*window.popleft(), keep)
            while window:
                yield _output(*window.popleft(), keep)
        finally:
            for _, _, future in window:
                future.cancel()

    def _suits(self, body: dict[str, Any]) -> str:
        models: tuple[ModelConfig, ...] = self._engines.config.models
        if has_image(body.get("messages", ())):
            models = tuple(model for model in models if model.kind == "vision") or models
        return models[0].id

    async def _open(self) -> Sender:
        return await Sender(self._engines.client(), self._engines.pace()).__aenter__()

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def _output(index: int, prompt: str | None, future: Future[Answer | NoAnswer], keep: bool) -> RequestOutput:
    answer = future.result()
    if isinstance(answer, NoAnswer) or answer.status != 200:
        reason = str(answer) if isinstance(answer, NoAnswer) else _refusal(answer)
        if not keep:
            raise RequestFailed(index, reason)
        return RequestOutput(str(index), prompt, [], error=reason)
    reply = msgspec.json.decode(answer.body, type=_Reply)
    outputs = [
        CompletionOutput(one.index, one.text if one.message is None else one.message.content or "", one.finish_reason)
        for one in reply.choices
    ]
    return RequestOutput(reply.id, prompt, outputs, reply.usage.prompt_tokens, reply.usage.completion_tokens)


class _Said(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    index: int
    finish_reason: str | None = None
    text: str = ""
    message: _Said | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Reply(msgspec.Struct):
    """What is read of an answer to either kind of request."""

    id: str
    choices: list[_Choice]
    usage: _Usage


def _refusal(answer: Answer) -> str:
    try:
        return f"{answer.status}: {msgspec.json.decode(answer.body)['error']['message']}"
    except (msgspec.DecodeError, KeyError, TypeError):
        return f"{answer.status}: {answer.body[:300].decode(errors='replace')}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _silent(text: str) -> None: ...


__all__ = ["LLM", "CompletionOutput", "RequestFailed", "RequestOutput", "SamplingParams"]
