"""How a replica tells, beside a streamed answer, what is needed to go on with it elsewhere.

The router asks for it with CONTINUABLE_HEADER. An answer that is an event stream then has this header as well, and its
chunks begin with marks: MARK, what the engine has put out since the last one, and a line break. No event holds a byte
such as MARK, which JSON writes as an escape. The router takes the marks out, keeps what they say, and sends it with the
request to another replica if this one is lost: after the body, whose length is then in SAID_HEADER.

What a mark says is a list of outputs with BETWEEN, which JSON does not hold either, between them. An output is the ids
of its tokens with `,` between them; where there is more to it, a JSON object follows: `ended`, a list of finish_reason
and stop_reason, of the last one, and `logprobs` where they were asked for. The last mark, after the last event, says
how many tokens the answer took.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

CONTINUABLE_HEADER = b"x-continuable"
"""Asks for marks. Its value is an `Identity` as bytes."""
SAID_HEADER = b"x-said"
"""The request's own length, in bytes, where what an answer has said comes after it."""
MARK = b"\x01"
BETWEEN = b"\x02"
STOP = b"-"
"""A mark that says that this answer cannot be continued."""
DIED = b"!"
"""A mark that says that the answer breaks off here because the engine has died."""
USED = b"="
"""A mark that begins so says how many tokens the engine has processed for the answer, without cached ones; nothing
comes after it."""
EVENT_END = b"\n\n"

End = tuple[str, str | int | None]
"""An answer's finish_reason and stop_reason."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What the ids and times in an answer follow from, so that another replica gives it the same."""

    name: str
    """Unique to the request."""
    began: int
    """When it came, seconds since the epoch."""

    def __bytes__(self) -> bytes:
        return b"%b %d" % (self.name.encode(), self.began)

    @classmethod
    def read(cls, value: bytes) -> Identity:
        name, _, began = value.partition(b" ")
        return cls(name.decode(), int(began))


@dataclass(frozen=True, slots=True)
class Output:
    """What an engine put out at once for one answer."""

    tokens: tuple[int, ...]
    ended: End | None = None
    """Of the last one."""
    logprobs: list[Any] | None = None
    """Of each token, as the engine that tells and the one that goes on understand them."""

    def __bytes__(self) -> bytes:
        ids = ",".join(map(str, self.tokens))
        more = {"ended": self.ended, "logprobs": self.logprobs}
        if said := {name: value for name, value in more.items() if value is not None}:
            ids += json.dumps(said)
        return ids.encode()

    @classmethod
    def read(cls, text: bytes) -> Output:
        ids, begins, more = text.partition(b"{")
        tokens = tuple(map(int, ids.split(b","))) if ids else ()
        said = json.loads(begins + more) if begins else {}
        ended = said.get("ended")
        return cls(tokens, tuple(ended) if ended else None, said.get("logprobs"))


@dataclass(frozen=True, slots=True)
class Said:
    """What a client has of an answer."""

    events: int
    """Those it got, whole."""
    outputs: tuple[Output, ...]
    """What they, and perhaps some it did not get, were made of."""

    @property
    def tokens(self) -> list[int]:
        return [token for output in self.outputs for token in output.tokens]

    @property
    def ended(self) -> bool:
        """Whether the engine had nothing more to say."""
        return bool(self.outputs) and self.outputs[-1].ended is not None

    @classmethod
    def read(cls, text: bytes) -> Said:
        """As `write` has it."""
        events, _, outputs = text.partition(b"\n")
        return cls(int(events), tuple(map(Output.read, outputs.split(BETWEEN))) if outputs else ())


def write(events: int, marks: bytes) -> bytes:
    """What comes after a request's body, from the events its client got and what the marks said, with BETWEEN between
    them."""
    return b"%d\n%b" % (events, marks)
