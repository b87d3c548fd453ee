"""Sending what a generation yields, until it ends, its client leaves, or the engine dies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import Receive, Scope, Send

from serve_app.engine.continuing import telling
from serve_app.engine.simulation.driver import Generation
from serve_app.engine.simulation.render import Dialect
from serve_app.http.errors import ApiError

Check = Callable[[Generation], None]
"""Called after each piece of news about a generation."""
_SSE = [(b"content-type", b"text/event-stream; charset=utf-8")]


class StreamedAnswer:
    """An answer in the making: a client that leaves takes its sequences along."""

    def __init__(self, generation: Generation, answer: Callable[[Send], Awaitable[None]]) -> None:
        self._generation = generation
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watch = asyncio.create_task(self._cancel_on_disconnect(receive))
        try:
            await self._answer(send)
        finally:
            watch.cancel()
            self._generation.cancel()

    async def _cancel_on_disconnect(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._generation.cancel()


async def stream(generation: Generation, dialect: Dialect, send: Send, check: Check) -> None:
    """Server-sent events. A stream that breaks off lacks its final message, so the server hangs up."""
    await send({"type": "http.response.start", "status": 200, "headers": _SSE})
    sequences, had, one = generation.sequences, said(), telling.get()
    if one is not None and len(sequences) > 1:
        one.stop()
    sent = [0] * len(sequences)
    chunks = [dialect.opening()]
    ended = False
    while not ended:
        await generation.progress()
        ended = generation.ended
        for choice, sequence in enumerate(sequences):
            before = sent[choice]
            while (index := sent[choice]) < had + sequence.emitted:
                sent[choice] = index + 1
                render_token = dialect.last if index + 1 == had + sequence.output_tokens else dialect.token
                chunks.append(render_token(choice, index))
            if one is not None and (news := range(max(before, had), sent[choice])):
                one.tell(news)
        if ended:
            if any(sequence.state == "cancelled" for sequence in sequences):
                return
            chunks.append(dialect.closing(sent))
        await send({"type": "http.response.body", "body": b"".join(chunks), "more_body": True})
        chunks.clear()
        check(generation)
    await send({"type": "http.response.body", "body": b""})


def said() -> int:
    """Tokens of the present request's answer that another replica has said."""
    one = telling.get()
    return len(one.said.tokens) if one is not None and one.said is not None else 0


async def whole(generation: Generation, dialect: Dialect, send: Send, check: Check) -> None:
    """The answer in one piece."""

    def answer() -> dict[str, Any]:
        return dialect.whole([sequence.emitted for sequence in generation.sequences])

    await when_ended(generation, answer, send, check)


async def when_ended(generation: Generation, answer: Callable[[], dict[str, Any]], send: Send, check: Check) -> None:
    """Send `answer()` as JSON once the generation has ended."""
    while not generation.ended:
        await generation.progress()
        check(generation)
    if generation.broken:
        raise dead()
    if all(sequence.state == "finished" for sequence in generation.sequences):
        body = json.dumps(answer()).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def nothing(generation: Generation) -> None:
    """A check that checks nothing."""


def dead() -> ApiError:
    """What a dead engine answers."""
    return ApiError(500, "The engine is dead.", code="engine_dead")
