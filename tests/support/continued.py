"""Answers that are begun, cut off and gone on with: the same as if nothing had happened, wherever they were cut."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import httpx

from serve_app.replica.said import EVENT_END
from serve_app.routing.body import RequestBody
from serve_app.routing.continuation import Continuation

VARIES = {
    "cached_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_write_tokens",
    "completed_at",
    "sequence_number",
}
"""What depends on the prefix cache, the clock, and how much text there was for an event."""
DELTAS = {"content", "text", "reasoning", "delta", "arguments", "partial_json", "thinking"}
"""Texts that come in pieces, of whatever size."""
CLOSE = 1e-3
"""Of log probabilities: a batch of another shape computes other last digits."""
AT_ONCE = 12


class Asking:
    """One request, and its answer's beginning and end on whatever replica."""

    def __init__(self, client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
        self._client = client
        self._path = path
        self._data = json.dumps(body).encode()

    def continuation(self) -> Continuation:
        return Continuation(RequestBody(self._data), 2**20)

    async def ask(self, going: Continuation) -> bytes:
        """What comes, with its marks."""
        headers, data = going.request()
        given = {"content-type": "application/json", "x-request-id": "mine"}
        answer = await self._client.post(
            self._path, content=data, headers=[*((k.encode(), v.encode()) for k, v in given.items()), *headers]
        )
        return answer.content if answer.status_code == 200 else b"%d %b" % (answer.status_code, answer.content)


def joined(stream: bytes) -> dict[str, list[Any]]:
    """All that an answer's events say, by where in them it stands: its pieces one behind the other."""
    found: dict[str, list[Any]] = {}

    def gather(where: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, one in value.items():
                if name not in VARIES:
                    gather(f"{where}.{name}", one)
        elif isinstance(value, list):
            for one in value:
                gather(f"{where}[]", one)
        elif value is not None and value != "":
            pieces = found.setdefault(where, [])
            if where.rpartition(".")[2] in DELTAS and pieces and isinstance(value, str):
                pieces[0] += value
            elif not pieces or "logprobs" in where or value != pieces[-1]:
                pieces.append(value)

    for event in stream.split(EVENT_END):
        for line in event.split(b"\n"):
            if line.startswith(b"data: {"):
                data = json.loads(line.removeprefix(b"data: "))
                gather(data.get("type", ""), data)
    return found


def equal(one: dict[str, list[Any]], other: dict[str, list[Any]]) -> bool:
    return one.keys() == other.keys() and all(
        len(one[where]) == len(other[where])
        and all(
            math.isclose(a, b, abs_tol=CLOSE) if isinstance(a, float) else a == b
            for a, b in zip(one[where], other[where], strict=True)
        )
        for where in one
    )


async def tried(asking: Asking) -> dict[str, Any]:
    """How many `events` an answer has, whether going on with it is `possible`, its `text`, the tokens that it `used` as
    far as is said, and the `others`: what came where going on gave another answer, with the number of events that were
    there before."""
    first = asking.continuation()
    *events, last = (await asking.ask(first)).split(EVENT_END)
    marked = [event + EVENT_END for event in events]
    whole = first.take(b"".join(marked))
    told: dict[str, Any] = {"events": len(marked), "possible": first.possible, "text": whole.decode(), "others": []}
    told["used"] = first.used if first.take(last) == b"" else last.decode()
    gate = asyncio.Semaphore(AT_ONCE)

    async def from_event(cut: int) -> None:
        going = asking.continuation()
        going._identity = first._identity
        got = going.take(b"".join(marked[:cut]))
        async with gate:
            got += going.take(await asking.ask(going))
        if not equal(joined(got), joined(whole)):
            told["others"].append([cut, got.decode()])

    if first.possible:
        await asyncio.gather(*map(from_event, range(len(marked) + 1)))
    return told
