"""Models in a few lines of Python, without a service: `LLM("configs/demo.yaml").chat(messages)`.

The shape is that of vLLM's offline `LLM`; behind it are all the replicas that the configuration has.
"""

from __future__ import annotations

import asyncio
import atexit
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any, Literal

import msgspec

from serve_app.batch.run.client import NoResponse, ServiceResponse
from serve_app.batch.run.engines import LocalEngines
from serve_app.batch.run.sender import PacedSender
from serve_app.config.file import load
from serve_app.config.schema import ModelConfig, ServiceConfig
from serve_app.offline.images import has_image, with_data_urls
from serve_app.offline.outputs import CompletionOutput, Prompt, PromptFailed, RequestOutput, output_of
from serve_app.offline.sampling_params import SamplingParams, fields

Message = dict[str, Any]
Conversation = list[Message]
Pending = Future[ServiceResponse | NoResponse] | PromptFailed
"""What will come of a prompt that was sent, or why it could not be sent."""
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
AHEAD = 1024
"""Requests handed over before the first of them is answered."""


class RequestFailed(Exception):
    """A prompt the engine refuses, or gave no answer to. Its `index` is its place among the prompts."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"prompt {index}: {reason}")
        self.index = index


class LLM:
    """The engines of a configuration, for this process. A context manager; also closed when the process ends."""

    def __init__(self, config: str | Path | ServiceConfig, *, models: Sequence[str] | None = None, quiet: bool = False):
        """Starts the engines, on the Ray cluster that RAY_ADDRESS names or on one of their own, and waits for them.

        `models` starts only these. Raises ConfigError, ValueError where one of `models` is not in the configuration,
        and DidNotStart where an engine could not.
        """
        service = config if isinstance(config, ServiceConfig) else load(config).applications[0].config
        if models is not None:
            names = {name for model in service.models for name in model.names}
            if strange := set(models) - names:
                raise ValueError(f"model {min(strange)!r} is not in the configuration, which has {sorted(names)}")
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
        `model` names the model; unless given it is the first, or for an image the first that sees. `adapter` names one
        of a model's adapters, and with it the model. With `errors="keep"` a prompt that fails, for whatever reason, has
        its `error` set; otherwise RequestFailed is raised in its place. Further keywords, such as `tools`, go into each
        request.

        Raises TypeError for a parameter that no request has, or for both `model` and `adapter`, and ValueError where
        there are not as many of `sampling_params` as of conversations: before anything is sent, or for a generator
        where it ends.
        """
        one = isinstance(messages, list) and bool(messages) and isinstance(messages[0], dict)
        return self._run(CHAT, [messages] if one else messages, _conversation, sampling_params, iterator, **more)

    def generate(
        self, prompts: str | Iterable[str], sampling_params: Any = None, *, iterator: bool = False, **more: Any
    ) -> list[RequestOutput] | Iterator[RequestOutput]:
        """Continue one text or any number of them, as they are, or lists of token ids; otherwise as `chat`."""
        return self._run(
            COMPLETIONS, [prompts] if isinstance(prompts, str) else prompts, _text, sampling_params, iterator, **more
        )

    def _run(
        self,
        url: str,
        prompts: Iterable[Any],
        body_of: Callable[[Any], tuple[Prompt, dict[str, Any]]],
        sampling_params: Any,
        iterator: bool,
        *,
        model: str | None = None,
        adapter: str | None = None,
        errors: Literal["raise", "keep"] = "raise",
        use_tqdm: bool = True,
        **extra: Any,
    ) -> list[RequestOutput] | Iterator[RequestOutput]:
        if errors not in ("raise", "keep"):
            raise ValueError(f"errors is {errors!r}: 'raise' or 'keep'")
        if model is not None and adapter is not None:
            raise TypeError(f"adapter={adapter!r} says which model answers: leave model={model!r} out")
        if extra.get("stream"):
            raise TypeError("stream is not for LLM: iterator=True gives each result as soon as it is there")
        each = self._each(prompts, sampling_params, url == CHAT)

        def ask(prompt: Any, params: dict[str, Any]) -> tuple[Prompt, Pending]:
            shown: Prompt = None
            try:
                shown, body = body_of(prompt)
                whole = {"model": adapter or model or self._suits(body), **body, **params, **extra}
                asked = self._sender.ask(url, msgspec.json.encode(whole))
            except Exception as error:
                return shown, PromptFailed(f"{type(error).__name__}: {error}")
            return shown, asyncio.run_coroutine_threadsafe(asked, self._loop)

        results = self._stream((ask(prompt, params) for prompt, params in each), errors == "keep")
        if iterator:
            return results
        from tqdm import tqdm

        return list(tqdm(results, desc="prompts", unit="", disable=not (use_tqdm and sys.stderr.isatty())))

    def _each(self, prompts: Iterable[Any], params: Any, chat: bool) -> Iterator[tuple[Any, dict[str, Any]]]:
        """The prompts with the parameters of each. Raises TypeError, ValueError."""
        if not isinstance(params, list | tuple):
            same = fields(params, chat)
            return ((prompt, same) for prompt in prompts)
        if isinstance(prompts, Sized) and len(prompts) != len(params):
            raise ValueError(f"there are {len(prompts)} prompts, but {len(params)} sampling_params: give one for each")
        return _paired(prompts, [fields(one, chat) for one in params])

    def _stream(self, asked: Iterable[tuple[Prompt, Pending]], keep: bool) -> Iterator[RequestOutput]:
        """The results in order. Whoever stops listening, or whose prompts end with an error, takes back what is not
        answered."""
        window: deque[tuple[int, Prompt, Pending]] = deque()
        try:
            for index, (prompt, future) in enumerate(asked):
                window.append((index, prompt, future))
                while window and (
                    len(window) >= AHEAD or isinstance(window[0][2], PromptFailed) or window[0][2].done()
                ):
                    yield _output(*window.popleft(), keep)
            while window:
                yield _output(*window.popleft(), keep)
        finally:
            for _, _, future in window:
                if not isinstance(future, PromptFailed):
                    future.cancel()

    def _suits(self, body: dict[str, Any]) -> str:
        models: tuple[ModelConfig, ...] = self._engines.config.models
        if has_image(body.get("messages", ())):
            models = tuple(model for model in models if model.kind == "vision") or models
        return models[0].id

    async def _open(self) -> PacedSender:
        return await PacedSender(self._engines.client(), self._engines.pace()).__aenter__()

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def _output(index: int, prompt: Prompt, future: Pending, keep: bool) -> RequestOutput:
    try:
        if isinstance(future, PromptFailed):
            raise future
        return output_of(index, prompt, future.result())
    except CancelledError:
        raise
    except Exception as error:
        if not keep:
            raise RequestFailed(index, str(error)) from error
        return RequestOutput(str(index), prompt, [], error=str(error))


def _paired(prompts: Iterable[Any], params: Sequence[dict[str, Any]]) -> Iterator[tuple[Any, dict[str, Any]]]:
    count = 0
    for count, prompt in enumerate(prompts, 1):
        if count > len(params):
            raise ValueError(f"there are more prompts than the {len(params)} sampling_params: give one for each")
        yield prompt, params[count - 1]
    if count < len(params):
        raise ValueError(f"there are {count} prompts, but {len(params)} sampling_params: give one for each")


def _conversation(turns: Any) -> tuple[Prompt, dict[str, Any]]:
    if not isinstance(turns, list | tuple) or not all(isinstance(turn, dict) for turn in turns):
        raise TypeError(f"a conversation is a list of messages, each a dict, not {_kind(turns)}")
    return None, {"messages": with_data_urls(list(turns))}


def _text(prompt: Any) -> tuple[Prompt, dict[str, Any]]:
    if not isinstance(prompt, str) and not (isinstance(prompt, list) and all(type(one) is int for one in prompt)):
        raise TypeError(f"a prompt is a text, or a list of token ids, not {_kind(prompt)}")
    return prompt, {"prompt": prompt}


def _kind(value: Any) -> str:
    within = f" with {type(value[0]).__name__}" if isinstance(value, list | tuple) and value else ""
    return type(value).__name__ + within


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _silent(text: str) -> None: ...


__all__ = ["LLM", "CompletionOutput", "RequestFailed", "RequestOutput", "SamplingParams"]
