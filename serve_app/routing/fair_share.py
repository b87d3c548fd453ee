"""Who of several clients has had less than its share: a Virtual Token Counter for each (Sheng et al., "Fairness in
Serving Large Language Models", OSDI 2024).

A client's counter grows with each request that is given a replica, by the request's tokens over the client's weight: at
once by what the client's requests take on the mean, and by what is missing from that when it is known. Who has the
lowest counter is served next. A client that has had nothing waiting goes on from where the others are served: what it
did not use is no credit, and what it had while nobody waited is no debt.
"""

from __future__ import annotations

from dataclasses import dataclass

from serve_app.routing.claim import Claim

PRESENT_S = 10.0
"""How long after its last request a client counts as present."""
LIGHT = 1 / 2
"""A client that holds less than this part of its share is light: it finds a reserve. Clients that all hold about their
share do not, or by chance one of them always would."""
BYTES_PER_TOKEN = 4
FIRST_PROMPT_MOST = 4096
FIRST_ANSWER_TOKENS = 256
"""What a sequence is taken for before any is known: its part of the body's bytes, and an answer of so many tokens."""
LEARN_FROM = 8
"""Requests over which the mean of their tokens is taken."""


@dataclass(slots=True, eq=False)
class Client:
    """What is known of one."""

    name: str
    weight: float
    counter: float = 0.0
    """Tokens over its weight."""
    open: int = 0
    """Sequences that replicas hold."""
    waiting: int = 0
    """Sequences that wait."""
    waiting_tokens: float = 0.0
    """What those are taken for."""
    seen_at: float = 0.0
    mean: float | None = None
    """Tokens of a sequence; None before any is known."""


class FairShare:
    """The clients of one class of requests. Times are seconds on the caller's clock."""

    def __init__(self) -> None:
        self.open = 0
        """Sequences that replicas hold."""
        self._clients: dict[str, Client] = {}
        self._present: dict[Client, None] = {}
        """By when they were seen last."""
        self._latest: Client | None = None
        """Of those."""
        self._weight = 0.0
        """Of those that are present."""
        self._served = 0.0
        """Where the counter of who was served last stood; never falls."""

    @property
    def present(self) -> int:
        """Clients that have something open or waiting, or had it lately."""
        return len(self._present)

    def client(self, claim: Claim) -> Client:
        """Whose request it is."""
        found = self._clients.get(claim.client)
        if found is None:
            found = self._clients[claim.client] = Client(claim.client, claim.weight)
        return found

    def expected(self, name: str, body_bytes: int, sequences: int) -> float:
        """Tokens that a request of the client of this name is taken for."""
        found = self._clients.get(name)
        if found is not None and found.mean is not None:
            return found.mean * sequences
        return min(body_bytes / BYTES_PER_TOKEN, FIRST_PROMPT_MOST) + FIRST_ANSWER_TOKENS * sequences

    def arrives(self, claim: Claim, now: float) -> None:
        """A request comes."""
        client = self.client(claim)
        if not client.waiting and client.counter < self._served:
            client.counter = self._served
        client.seen_at = now
        if client is not self._latest:
            if client in self._present:
                del self._present[client]
            else:
                self._weight += client.weight
            self._present[client] = None
            self._latest = client
        if len(self._present) > 1:
            self.forget(now)

    def forget(self, now: float) -> None:
        """Those that have gone are no longer present."""
        while self._present and (first := next(iter(self._present))).seen_at < now - PRESENT_S:
            del self._present[first]
            if first.open or first.waiting:
                first.seen_at = now
                self._present[first] = None
                self._latest = first
            else:
                self._weight -= first.weight
                self._latest = None if first is self._latest else self._latest

    def given(self, claim: Claim) -> None:
        """A request has a replica."""
        client = self.client(claim)
        self._served = max(self._served, client.counter)
        client.counter += claim.tokens / client.weight
        client.open += claim.sequences
        self.open += claim.sequences

    def ended(self, claim: Claim) -> None:
        """A request no longer has a replica."""
        self.client(claim).open -= claim.sequences
        self.open -= claim.sequences

    def settle(self, claim: Claim, tokens: float) -> None:
        """So many tokens is what a request that was given a replica has taken."""
        client = self.client(claim)
        client.counter += (tokens - claim.tokens) / client.weight
        if tokens:
            mean = tokens / claim.sequences
            client.mean = mean if client.mean is None else client.mean + (mean - client.mean) / LEARN_FROM

    def is_light(self, claim: Claim, open: int) -> bool:
        """Whether the client of a request holds less than LIGHT of its share of `open` sequences."""
        client = self.client(claim)
        return client.open * self._weight < LIGHT * open * client.weight


class FairShares:
    """The shares of one pool's requests: interactive ones and batch work apart, each among its own."""

    def __init__(self) -> None:
        self.people = FairShare()
        self.work = FairShare()

    @property
    def open(self) -> int:
        """Sequences that replicas hold for this process."""
        return self.people.open + self.work.open

    def of(self, claim: Claim) -> FairShare:
        """That of such a request's class."""
        return self.work if claim.batch else self.people

    def expected(self, client: str, body_bytes: int, sequences: int, *, batch: bool) -> float:
        """Tokens that a request of the client of this name is taken for."""
        return (self.work if batch else self.people).expected(client, body_bytes, sequences)

    def arrives(self, claim: Claim, now: float) -> None:
        """A request comes."""
        self.of(claim).arrives(claim, now)

    def forget(self, now: float) -> None:
        """Clients that have gone are no longer present."""
        self.people.forget(now)
        self.work.forget(now)

    def given(self, claim: Claim) -> None:
        """A request has a replica."""
        self.of(claim).given(claim)

    def ended(self, claim: Claim) -> None:
        """A request no longer has a replica."""
        self.of(claim).ended(claim)

    def settle(self, claim: Claim, tokens: float) -> None:
        """So many tokens is what a request that was given a replica has taken; 0 where it was not answered."""
        self.of(claim).settle(claim, tokens)

    def is_light(self, claim: Claim) -> bool:
        """Whether it is the interactive request of a client that holds much less than its share, beside others."""
        return not claim.batch and self.people.present > 1 and self.people.is_light(claim, self.open)

    def spares(self, claim: Claim) -> bool:
        """Whether the request leaves the reserve to others: it is not light, and there are others."""
        if claim.batch and self.people.present:
            return True
        share = self.of(claim)
        return share.present > 1 and not share.is_light(claim, self.open)
