"""The requests that wait, one behind another: within a client in the order in which they came, and among clients by who
has had the least of its share."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Container, Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from itertools import count

from serve_app.routing.claim import Claim
from serve_app.routing.fair_share import Client, FairShare
from serve_app.routing.replica import Replica


@dataclass(eq=False, slots=True)
class Waiter:
    """A request that waits, and what it gets."""

    claim: Claim
    client: Client
    avoid: frozenset[str]
    """Ids of replicas that have already failed it."""
    came: float
    """On the queue's clock."""
    line: Line | FairLine
    """Where it waits."""
    granted: asyncio.Future[Replica]


class Line:
    """Those who wait one behind another."""

    def __init__(self) -> None:
        self._waiters: dict[Waiter, None] = {}
        self.sequences = 0
        """Of all of them."""

    def __bool__(self) -> bool:
        return bool(self._waiters)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiters)

    def __contains__(self, waiter: Waiter) -> bool:
        return waiter in self._waiters

    def last(self) -> Waiter:
        """Who came last; StopIteration in an empty line."""
        return next(reversed(self._waiters))

    def join(self, waiter: Waiter) -> None:
        self._waiters[waiter] = None
        self.sequences += waiter.claim.sequences

    def leave(self, waiter: Waiter) -> None:
        """Take it out, if it is in the line."""
        if waiter in self._waiters:
            del self._waiters[waiter]
            self.sequences -= waiter.claim.sequences


class FairLine:
    """A line for each client that has requests waiting. To serve one of them takes a look at each client."""

    def __init__(self, share: FairShare) -> None:
        self._share = share
        self._lines: dict[Client, Line] = {}
        self.sequences = 0
        """Of all that wait."""

    def __bool__(self) -> bool:
        return bool(self._lines)

    def join(self, waiter: Waiter) -> None:
        client = waiter.client
        self._lines.setdefault(client, Line()).join(waiter)
        self._count(client, waiter.claim.sequences, waiter.claim.tokens)

    def leave(self, waiter: Waiter) -> None:
        """Take it out, if it is in the line."""
        client = waiter.client
        line = self._lines.get(client)
        if line is None or waiter not in line:
            return
        line.leave(waiter)
        self._count(client, -waiter.claim.sequences, -waiter.claim.tokens)
        if not line:
            del self._lines[client]
            client.waiting_tokens = 0.0

    def _count(self, client: Client, sequences: int, tokens: float) -> None:
        self.sequences += sequences
        client.waiting += sequences
        client.waiting_tokens += tokens

    def order(self, passed_over: Container[Client] = ()) -> Iterator[Waiter]:
        """All in the order in which they are to be served, as if each were served when it comes out. Of a client that
        comes to be among those `passed_over` no more come."""
        numbers = count()
        heads = []
        for client, line in self._lines.items():
            rest = iter(line)
            first = next(rest)
            heads.append((client.counter, first.came, next(numbers), first, rest))
        heapify(heads)
        while heads:
            counter, _, number, waiter, rest = heads[0]
            if waiter.client not in passed_over:
                yield waiter
            if waiter.client in passed_over or (following := next(rest, None)) is None:
                heappop(heads)
            else:
                counter += waiter.claim.tokens / waiter.client.weight
                heapreplace(heads, (counter, following.came, number, following, rest))

    def before(self, claim: Claim) -> int:
        """About how many sequences would be served before such a request that came now."""
        own = self._share.client(claim)
        until = own.counter + own.waiting_tokens / own.weight
        sequences = own.waiting
        for client in self._lines:
            if client is not own and client.counter <= until:
                tokens = (until - client.counter) * client.weight
                share = tokens / client.waiting_tokens if client.waiting_tokens > tokens else 1.0
                sequences += max(1, math.ceil(share * client.waiting))
        return sequences

    def fullest(self) -> Client:
        """Who has the most waiting, for its weight; ValueError in an empty line."""
        return max(self._lines, key=lambda client: client.waiting / client.weight)

    def makes_way(self, claim: Claim) -> Waiter | None:
        """The last of who has the most waiting, where such a request's client would still have less; None where not."""
        if not self._lines:
            return None
        fullest, own = self.fullest(), self._share.client(claim)
        if fullest.waiting / fullest.weight <= (own.waiting + claim.sequences) / own.weight:
            return None
        return self.last_of(fullest)

    def last_of(self, client: Client) -> Waiter:
        """A client's that came last; KeyError for one that has none."""
        return self._lines[client].last()
