"""The run: requests are made from a seed, damaged, sent, judged; what fails is made as small as it can be."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from tests.fuzz import pictures, seeds
from tests.fuzz.mutate import damaged
from tests.fuzz.request import Request
from tests.fuzz.wire import Answer, send

HANG_S = 30.0
AT_ONCE = 4
SHRUNK = 5
"""Failures that are made smaller; the others are told as they are."""
MOST_STEPS = 5
NOT_OFFERED = 501
"""Said on purpose, of routes that this service cannot have."""


@dataclass(frozen=True)
class Case:
    """One request of a run, which its seed and number name."""

    seed: int
    number: int
    picture: bool
    steps: tuple[int, ...]

    @classmethod
    def draw(cls, seed: int, number: int, picture: bool) -> Case:
        rng = Random(f"{seed}/{'picture' if picture else 'body'}/{number}")
        steps = rng.choice((0, 1, 1)) if picture else 1 + min(int(rng.expovariate(0.8)), MOST_STEPS - 1)
        return cls(seed, number, picture, tuple(rng.getrandbits(48) for _ in range(steps)))

    def request(self) -> Request:
        rng = Random(f"{self.seed}/{self.number}")
        return damaged(pictures.draw(rng) if self.picture else seeds.draw(rng), self.steps)


@dataclass(frozen=True)
class Failure:
    """A case that broke the invariant."""

    case: Case
    kind: str
    answer: Answer

    def __str__(self) -> str:
        what = "picture" if self.case.picture else "body"
        told = self.answer.body[-600:].decode("utf-8", "replace")
        which = f"{what} {self.case.number} of seed {self.case.seed}"
        return f"{self.kind}\n  {which}: {self.case.request()}\n  answer: {told}"


@dataclass
class Outcome:
    """What a run came to."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    """By route and status."""
    failures: list[Failure] = field(default_factory=list)
    slowest_s: float = 0.0
    done: int = 0


def judged(answer: Answer) -> str | None:
    """What is wrong with an answer, whatever was asked; None if nothing is."""
    if answer.trouble:
        return answer.trouble
    if answer.status >= 500 and answer.status != NOT_OFFERED:
        return f"{answer.status}"
    if answer.status == 200 and answer.content_type.startswith("text/event-stream"):
        broken = b'"error"' in answer.body and any(
            mark in answer.body for mark in (b'"code":500', b"EngineDead", b"api_error")
        )
        return "a stream that ends with this service's failure" if broken else None
    if answer.status >= 400 and answer.body:
        error = answer.error
        if not isinstance(error, dict) or not isinstance(error.get("message"), str):
            return f"{answer.status} in no schema of errors"
        if not isinstance(error.get("code", ""), str | None):
            return f"{answer.status} with a code that is no string"
    return None


class Suite:
    """One run against a service."""

    def __init__(self, url: str, seed: int, say: Callable[[str], None]) -> None:
        self._url = url
        self._seed = seed
        self._say = say

    async def run(self, bodies: int, images: int, deadline_s: float, first: int = 0) -> Outcome:
        """So many of each, from the `first` on, until there are no more or the time is over."""
        outcome, ends = Outcome(), time.monotonic() + deadline_s
        cases = self._cases(bodies, images, first)
        await asyncio.gather(*(self._work(cases, outcome, ends) for _ in range(AT_ONCE)))
        for i, failure in enumerate(outcome.failures[:SHRUNK]):
            outcome.failures[i] = await self._shrunk(failure)
        return outcome

    async def again(self, case: Case) -> Failure | None:
        """Send one case by itself."""
        answer = await send(self._url, case.request().wire(), HANG_S)
        kind = judged(answer)
        return Failure(case, kind, answer) if kind else None

    def _cases(self, bodies: int, images: int, first: int) -> Iterator[Case]:
        """Pictures in between bodies, evenly."""
        for number in range(bodies):
            yield Case.draw(self._seed, first + number, picture=False)
            for picture in range(number * images // bodies, (number + 1) * images // bodies):
                yield Case.draw(self._seed, first + picture, picture=True)

    async def _work(self, cases: Iterator[Case], outcome: Outcome, ends: float) -> None:
        for case in cases:
            if time.monotonic() > ends:
                return
            request = case.request()
            began = time.monotonic()
            answer = await send(self._url, request.wire(), HANG_S)
            took = time.monotonic() - began
            outcome.slowest_s = max(outcome.slowest_s, took)
            outcome.statuses[request.path.partition("?")[0][:40], answer.status] += 1
            outcome.done += 1
            kind = judged(answer)
            if kind and took >= HANG_S and not await self.again(case):
                kind = None  # It had only waited for others' long answers.
            if kind:
                outcome.failures.append(Failure(case, kind, answer))
                self._say(f"FAILED: {outcome.failures[-1]}")
            if outcome.done % 250 == 0:
                self._say(f"{outcome.done} sent, {len(outcome.failures)} failed")

    async def _shrunk(self, failure: Failure) -> Failure:
        """Without the steps that it does not take."""
        for step in failure.case.steps:
            case = failure.case
            fewer = Case(case.seed, case.number, case.picture, tuple(one for one in case.steps if one != step))
            failure = await self.again(fewer) or failure
        return failure
