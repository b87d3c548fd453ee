"""What a replica has made for each key: tokens of prompts and answers, as its engine counts them.

Admission control opens an `Account` for each request, and the engine adds to it what it can be asked for later: so that
nothing is done for a token, and what a request has had is known at any time, however it ends. The replica writes its
totals to Ray's key-value store while they change (`publish`). They outlive it: what is lost with a replica that dies is
what it made since it wrote last.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from serve_app.compat import kv_store
from serve_app.replica.tally import DAY_S, Tally

PUBLISH_S = 0.25
LIGHT_PRIORITY, BATCH_PRIORITY = -1, 10
"""In the engine's queue: who has a lower one goes first, and 0 is others'."""
DAYS_TOLD = 2
"""The present one and the one before: who reads them has seen the end of a day by then."""

logger = logging.getLogger("ray.serve")


def prefix(app: str) -> str:
    """Of the facts of an application's replicas in the key-value store."""
    return f"tokens/{app}/"


class Used(NamedTuple):
    """Tokens of a sequence so far."""

    prompt: int = 0
    """Those that were processed, cached ones included; 0 before that."""
    cached: int = 0
    """Of those, how many the prefix cache had."""
    output: int = 0

    @property
    def processed(self) -> int:
        """Those that were more than looked up."""
        return self.prompt - self.cached + self.output


NOTHING = Used()


class Timing(NamedTuple):
    """When a sequence had its tokens."""

    first_token_at: float
    """Seconds since the epoch."""
    more_s: float
    """From the first to the last one so far."""
    more_tokens: int
    """In that time."""


@dataclass(slots=True, eq=False)
class Account:
    """One request's sequences."""

    key: str
    """The name of its key; empty where that has none."""
    id: str = ""
    """Its `x-request-id`."""
    route: str = ""
    waited_s: float = 0.0
    """For a replica, before it came to this one."""
    admission_s: float = 0.0
    """For room in this replica, or for its engine to wake."""
    batch: bool = False
    """Whether it is batch work."""
    light: bool = False
    """Whether its client holds much less than its share."""
    most_prompt: int | None = None
    """Tokens that a prompt may have."""
    most_output: int | None = None
    """Tokens after which an answer ends."""
    sequences: list[Callable[[], Used]] = field(default_factory=list)
    timings: list[Callable[[], Timing | None]] = field(default_factory=list)
    """Of its sequences that began here; None before the first token."""
    counted: Used = NOTHING
    """What the ledger has of it."""
    arrived: float = field(default_factory=time.time)
    """Seconds since the epoch."""
    began: float = field(default_factory=time.perf_counter)
    first_byte_at: float = 0.0
    """As `began`; 0 before."""
    status: int = 0
    """Of its answer; 0 where none has begun."""

    @property
    def priority(self) -> int:
        """In the engine's queue, where the request itself says none."""
        return BATCH_PRIORITY if self.batch else LIGHT_PRIORITY if self.light else 0

    def used(self) -> Used:
        """What it has had so far."""
        return Used(*map(sum, zip(*(one() for one in self.sequences), strict=True))) if self.sequences else NOTHING

    def prompt_refusal(self, tokens: int) -> str | None:
        """Why a prompt of so many tokens is not taken; None where it is."""
        if self.most_prompt is None or tokens <= self.most_prompt:
            return None
        return (
            f"the prompt has {tokens} tokens, and the key {self.key!r} may send {self.most_prompt}"
            " (max_prompt_tokens): shorten it"
        )


current: ContextVar[Account] = ContextVar("account")
"""Of the request that is being served."""


@dataclass(slots=True)
class _KeyTotals:
    tally: Tally = field(default_factory=Tally)
    requests: int = 0
    used: Used = NOTHING
    days: dict[int, list[int]] = field(default_factory=dict)
    """[requests, prompt, cached, output] by days since the epoch."""


class Ledger(Collector):
    """Of one replica."""

    def __init__(self, model: str, clock: Callable[[], float] = time.time) -> None:
        """`clock` tells seconds since the epoch."""
        self.ended: list[Callable[[Account], None]] = []
        """Told of each request at its end, when all of it is counted."""
        self._model = model
        self._clock = clock
        self._open: set[Account] = set()
        self._totals: dict[str, _KeyTotals] = {}

    @contextlib.contextmanager
    def account(self, account: Account) -> Iterator[None]:
        """The request's, while it is served; everything below finds it as `current`."""
        token = current.set(account)
        self._open.add(account)
        try:
            yield
        finally:
            current.reset(token)
            self._open.discard(account)
            self._count(account)
            for told in self.ended:
                told(account)

    def fact(self) -> dict[str, Any]:
        """All totals as JSON, requests that are open included."""
        for account in self._open:
            self._count(account)
        keys = {
            name: {
                "tally": one.tally.fact(),
                "ever": [one.requests, *one.used],
                "days": {str(day): list(numbers) for day, numbers in one.days.items()},
            }
            for name, one in self._totals.items()
        }
        return {"model": self._model, "keys": keys}

    def collect(self) -> Iterator[CounterMetricFamily]:
        """For prometheus_client."""
        self.fact()
        family = CounterMetricFamily(
            "serve_app_tokens",
            "Tokens made for a key: of prompts, cached ones included, those of them that were cached, of answers.",
            labels=("key", "model", "kind"),
        )
        for name, one in self._totals.items():
            for kind, value in one.used._asdict().items():
                family.add_metric((name, self._model, kind), value)
        yield family

    async def publish(self, name: str) -> None:
        """Write the totals as the fact of this name whenever they have changed. Never returns."""
        written: dict[str, Any] = {}
        while True:
            await asyncio.sleep(PUBLISH_S)
            if (fact := self.fact())["keys"] and fact != written and await self.write(name, fact):
                written = fact

    async def write(self, name: str, fact: dict[str, Any]) -> bool:
        """Whether the fact was written."""
        try:
            await asyncio.to_thread(kv_store.write, name, fact)
        except Exception as error:
            logger.warning("what %s has made for its keys is not known to others: %r", self._model, error)
            return False
        return True

    def _count(self, account: Account) -> None:
        """Bring the totals up to what the request has had."""
        used = account.used()
        new = Used(*(after - before for after, before in zip(used, account.counted, strict=True)))
        began = not account.counted.prompt and used.prompt > 0
        if not any(new):
            return
        account.counted = used
        now = self._clock()
        day = int(now // DAY_S)
        totals = self._totals.setdefault(account.key, _KeyTotals())
        totals.tally.add(now, new.prompt + new.output)
        totals.requests += began
        totals.used = Used(*(a + b for a, b in zip(totals.used, new, strict=True)))
        numbers = totals.days.setdefault(day, [0, 0, 0, 0])
        for index, amount in enumerate((int(began), *new)):
            numbers[index] += amount
        for old in [one for one in totals.days if one <= day - DAYS_TOLD]:
            del totals.days[old]


def sums(of_key: dict[str, Any]) -> tuple[int, int]:
    """Requests and tokens of a key since the replica began, from its part of a fact."""
    requests, prompt, _, output = of_key["ever"]
    return requests, prompt + output


def facts(app: str) -> dict[str, Any]:
    """What an application's replicas have written, by their names, those that are gone included. Blocks.

    What is of no day that counts is erased: older than yesterday. A replica that lives writes it again when it has made
    more.
    """
    yesterday = int(time.time() // DAY_S) - 1
    found = kv_store.read_all(prefix(app))
    for name in [name for name, fact in found.items() if _last_day(fact) < yesterday]:
        kv_store.erase(name)
        del found[name]
    return found


def _last_day(fact: dict[str, Any]) -> int:
    return max((int(day) for of_key in fact["keys"].values() for day in of_key["days"]), default=0)
