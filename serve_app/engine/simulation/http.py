"""vLLM's HTTP face over the simulated engine, and POST /simulate/fail."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from serve_app.config.schema import ModelConfig
from serve_app.engine.adapters import serving
from serve_app.engine.context import Context
from serve_app.engine.simulation import answer, events, render, requests
from serve_app.engine.simulation.batch import QueueFull
from serve_app.engine.simulation.driver import Driver, Generation
from serve_app.engine.simulation.sequence import Sequence
from serve_app.http.errors import ApiError
from serve_app.http.pages import starlette_app
from serve_app.replica.ledger import Timing, Used, current


def build(driver: Driver, model: ModelConfig, max_model_len: int, version: str) -> Starlette:
    """The app of one replica."""
    routes = Routes(driver, model, max_model_len, version)

    def post(path: str, endpoint: Callable[[Request], Awaitable[ASGIApp]]) -> Route:
        return Route(path, routes.unless_refusing(endpoint), methods=["POST"])

    return starlette_app(
        [
            post("/v1/chat/completions", routes.generate("chat", render.Chat)),
            post("/v1/chat/completions/batch", routes.generate("chat batch", render.Chat)),
            post("/v1/completions", routes.generate("completion", render.Completion)),
            post("/v1/responses", routes.generate("response", events.Responses)),
            post("/v1/messages", routes.generate("message", events.Messages)),
            post("/v1/messages/count_tokens", routes.count_tokens),
            post("/v1/embeddings", routes.embeddings),
            post("/invocations", routes.invocations),
            post("/tokenize", routes.tokenize),
            post("/detokenize", routes.detokenize),
            Route("/v1/models", routes.models),
            Route("/health", routes.health),
            Route("/version", routes.version),
            Route("/metrics", routes.metrics),
            Route("/simulate/fail", routes.fail, methods=["POST"]),
        ]
    )


class Routes:
    """The endpoints of one replica."""

    def __init__(self, driver: Driver, model: ModelConfig, max_model_len: int, version: str) -> None:
        self._driver = driver
        self._model = model
        self._max_model_len = max_model_len
        self._version = version
        self._created = int(time.time())

    def unless_refusing(
        self, endpoint: Callable[[Request], Awaitable[ASGIApp]]
    ) -> Callable[[Request], Awaitable[ASGIApp]]:
        async def guarded(request: Request) -> ASGIApp:
            if self._driver.refusing:
                raise ApiError(503, "the engine refuses requests, as it was told to", code="refusing")
            return await endpoint(request)

        return guarded

    def generate(self, route: requests.Route, dialect: type[render.Dialect]) -> Callable[[Request], Awaitable[ASGIApp]]:
        """The endpoint of a generating route."""

        async def endpoint(request: Request) -> ASGIApp:
            body = requests.read_json(await request.body())
            ask = requests.read_ask(route, body, self._name(body), self._max_model_len)
            ask = _bounded(ask)
            choices = ask.choices if route in ("chat", "chat batch", "completion") else 1
            said = answer.said()
            sizes = [
                (prompt + said, ask.output_tokens - said, 0 if choice == 0 else prompt)
                for prompt in ask.prompts
                for choice in range(choices)
            ]
            generation = self._submit(sizes, choices, streamed=ask.stream or ask.doomed)
            check = self._doom if ask.doomed else answer.nothing
            respond = answer.stream if ask.stream else answer.whole
            return answer.StreamedAnswer(generation, lambda send: respond(generation, dialect(ask), send, check))

        return endpoint

    async def embeddings(self, request: Request) -> ASGIApp:
        body = requests.read_json(await request.body())
        name = self._name(body)
        texts = requests.inputs(body.get("input"), "input")
        sizes = [requests.size(one) for one in texts]
        if max(sizes) > self._max_model_len:
            message = f"the context length is {self._max_model_len} tokens; an input has {max(sizes)}: shorten it"
            raise ApiError(400, message, "input", "context_length_exceeded")
        _check_prompts(sizes)
        pack = render.base64_floats if body.get("encoding_format") == "base64" else list
        generation = self._submit([(size, 0, 0) for size in sizes], streamed=False)
        vectors = [pack(render.embedding(one)) for one in texts]
        made = render.embeddings(name, vectors, sum(sizes))
        return answer.StreamedAnswer(
            generation, lambda send: answer.when_ended(generation, lambda: made, send, answer.nothing)
        )

    async def invocations(self, request: Request) -> ASGIApp:
        """SageMaker's one route for what the body is for."""
        body = requests.read_json(await request.body())
        if "messages" in body:
            return await self.generate("chat", render.Chat)(request)
        return await (self.embeddings if "input" in body else self.generate("completion", render.Completion))(request)

    async def count_tokens(self, request: Request) -> Response:
        body = requests.read_json(await request.body())
        self._name(body)
        return JSONResponse({"input_tokens": requests.messages_size(body)[0]})

    async def tokenize(self, request: Request) -> Response:
        body = requests.read_json(await request.body())
        self._name(body)
        if "messages" in body:
            count = requests.messages_size(body)[0]
        else:
            count = sum(map(requests.size, requests.inputs(body.get("prompt"), "prompt")))
        tokens = list(range(count))
        return JSONResponse({"count": count, "max_model_len": self._max_model_len, "tokens": tokens})

    async def detokenize(self, request: Request) -> Response:
        body = requests.read_json(await request.body())
        self._name(body)
        tokens = body.get("tokens")
        if not isinstance(tokens, list) or not all(type(token) is int and token >= 0 for token in tokens):
            raise ApiError(400, "tokens must be a list of token ids", "tokens", "invalid_value")
        if len(tokens) > self._max_model_len:
            message = Context(self._max_model_len, requests.LONGEST_TOKEN).too_many(len(tokens))
            raise ApiError(400, message, "tokens", "context_length_exceeded")
        return JSONResponse({"prompt": " ".join(f"tok{token}" for token in tokens)})

    async def models(self, request: Request) -> Response:
        card = {"object": "model", "created": self._created, "owned_by": "vllm", "root": self._model.id}
        card |= {"parent": None, "max_model_len": self._max_model_len}
        data = [{"id": name, **card} for name in self._model.names]
        return JSONResponse({"object": "list", "data": data})

    async def health(self, request: Request) -> Response:
        return Response(status_code=200 if self._driver.dead is None else 503)

    async def version(self, request: Request) -> Response:
        return JSONResponse({"version": self._version})

    async def metrics(self, request: Request) -> Response:
        driver, batch = self._driver, self._driver.batch
        label = self._model.id.replace("\\", r"\\").replace('"', r"\"")
        lines = []
        for kind, name, value in (
            ("gauge", "vllm:num_requests_running", batch.running),
            ("gauge", "vllm:num_requests_waiting", batch.waiting),
            ("gauge", "vllm:kv_cache_usage_perc", batch.kv_usage),
            ("counter", "vllm:prompt_tokens_total", driver.prompt_tokens),
            ("counter", "vllm:generation_tokens_total", driver.generation_tokens),
        ):
            lines.append(f"# TYPE {name} {kind}")
            lines.append(f'{name}{{engine="0",model_name="{label}"}} {float(value)}')
        return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")

    async def fail(self, request: Request) -> Response:
        """{"mode": "die" | "refuse" | "slow" | "ok", "factor": of slow}; death is for good."""
        body = requests.read_json(await request.body())
        mode, factor = body.get("mode"), body.get("factor", 1)
        if mode not in ("die", "refuse", "slow", "ok"):
            raise ApiError(400, "`mode` must be die, refuse, slow or ok.", param="mode", code="invalid_value")
        if not isinstance(factor, (int, float)) or factor <= 0:
            raise ApiError(400, "`factor` must be above 0.", param="factor", code="invalid_value")
        if mode == "die":
            self._driver.die("told to die")
        elif mode == "refuse":
            self._driver.refusing = True
        elif mode == "slow":
            self._driver.batch.slowdown = float(factor)
        else:
            self._driver.refusing, self._driver.batch.slowdown = False, 1.0
        return JSONResponse({"mode": mode})

    def _doom(self, generation: Generation) -> None:
        if generation.emitted >= requests.DOOM_TOKENS and self._driver.dead is None:
            self._driver.die("a prompt told it to die")

    def _name(self, body: dict[str, Any]) -> str:
        name = body.get("model") or self._model.id
        adapter = serving.current.get()
        if name not in self._model.names and (adapter is None or name != adapter.id):
            message = f"The model `{name}` does not exist."
            raise ApiError(404, message, param="model", code="model_not_found")
        return str(name)

    def _submit(self, sizes: list[tuple[int, int, int]], choices: int = 1, *, streamed: bool) -> Generation:
        """Of so many choices for each prompt the first has the prompt in the request's account, unless the answer was
        begun by another replica, which has it in its own."""
        if self._driver.dead is not None:
            raise answer.dead()
        account = current.get(None)
        try:
            priority = account.priority if account is not None else 0
            generation = self._driver.submit(sizes, streamed=streamed, priority=priority)
        except QueueFull:
            raise ApiError(
                503,
                "The engine is currently busy and cannot accept new requests. "
                "Please try again later or on a different instance.",
                code="queue_full",
            ) from None
        if account is not None:
            for index, sequence in enumerate(generation.sequences):
                has_prompt = index % choices == 0 and not answer.said()
                account.sequences.append(partial(_used, sequence, has_prompt=has_prompt))
                if not answer.said():
                    account.timings.append(partial(_timing, sequence, time.time()))
        return generation


def _bounded(ask: requests.Ask) -> requests.Ask:
    """Within the bounds of its key; raises ApiError 400 for a prompt that is not."""
    _check_prompts(ask.prompts)
    account = current.get(None)
    if account is None or account.most_output is None or ask.output_tokens <= account.most_output:
        return ask
    return replace(ask, output_tokens=account.most_output, finish_reason="length")


def _check_prompts(sizes: Iterable[int]) -> None:
    account = current.get(None)
    if account is not None and (reason := account.prompt_refusal(max(sizes))):
        raise ApiError(400, reason)


def _used(sequence: Sequence, *, has_prompt: bool) -> Used:
    """What a sequence has had so far."""
    if not sequence.emitted and sequence.state != "finished":
        return Used()
    if not has_prompt:
        return Used(output=sequence.emitted)
    return Used(sequence.prompt_tokens, sequence.cached_tokens, sequence.emitted)


def _timing(sequence: Sequence, submitted: float) -> Timing | None:
    """When a sequence had its tokens; `submitted` is when it came, on the wall's clock."""
    first, last = sequence.first_token_at, sequence.ended_at
    if first is None or last is None:
        return None
    return Timing(submitted + first - sequence.submitted_at, last - first, sequence.emitted - 1)
