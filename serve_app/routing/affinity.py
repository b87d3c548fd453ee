"""What a request shares with others, so that it can go where its prefix is cached already.

Only the first bytes of a prompt are looked at, in place: an image of megabytes costs what a long text costs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from hashlib import blake2b

import msgspec
from starlette.types import Scope

from serve_app.http.model_routes import MODEL_ROUTES
from serve_app.routing.head import RequestHead, RoutedMessage, header
from serve_app.routing.picker import Key

SPAN = 1024
"""Bytes of a prompt that say what it shares: about 256 tokens of English, as OpenAI's own routing takes
(platform.openai.com/docs/guides/prompt-caching). It is also the least that counts: what is shorter costs about one
decoding step to compute again, and a digest of all of it would change with each turn of a conversation."""
IMAGE_SPAN = 8 * SPAN
"""Bytes of a message with an image that say what it shares: different files begin alike, with the headers of their
format."""
SESSION_HEADER = b"x-session-id"

_IMAGE_MARKS = (b'image_url"', b'"base64"')
"""As the schemas of OpenAI and Anthropic write an image; inside a text the quotes would be escaped."""
_UNNAMED = (b"", b"null", b'""')
_HASHES = struct.Struct("<QQ")


def affinity_key(scope: Scope, head: RequestHead) -> Key | None:
    """Where the request belongs and where it goes if that is crowded; None if it shares too little with any other.

    A client that names its session, with `prompt_cache_key`, `session_id` or the header, belongs with it. One that
    sends an image belongs with that: it is hundreds of tokens, however short its address. Any other belongs with its
    prefix, and its second place is its conversation's: when one system prompt has all the traffic, every replica has it
    cached, and what is left to gain is that a conversation stays together.
    """
    if MODEL_ROUTES.get(scope["path"]) != "generate":
        return None
    turns = head.turns
    start = b"".join(_start(head, turns))
    if session := _session(scope, head):
        home, second = _hashes(session)
        return home, _hashes(start)[0] if len(start) == SPAN else second
    turn, has_image = _first_turn(head, turns)
    if has_image:
        return _hashes(turn)
    if len(start) < SPAN:
        return None
    return _hashes(start)[0], _hashes(turn)[1]


def _session(scope: Scope, head: RequestHead) -> bytes:
    for given in (head.prompt_cache_key, head.session_id):
        named = bytes(memoryview(given)[:SPAN])
        if named not in _UNNAMED:
            return named.strip(b'"')
    return header(scope["headers"], SESSION_HEADER)[:SPAN].encode()


def _start(head: RequestHead, turns: list[RoutedMessage]) -> Iterator[memoryview]:
    """The first SPAN bytes of the prompt as JSON, less if it is shorter."""
    left = SPAN
    for part in _parts(head, turns):
        piece = memoryview(part)[:left]
        yield piece
        left -= len(piece)
        if not left:
            return


def _parts(head: RequestHead, turns: list[RoutedMessage]) -> Iterator[msgspec.Raw]:
    """What the prompt is made of, in the order in which LFM2's chat template renders it."""
    told = bool(turns) and turns[0].role in ("system", "developer")
    yield from (head.system, head.instructions)
    if told:
        yield turns[0].content
    yield head.tools
    for turn in turns[told:]:
        yield turn.content
    yield from (head.prompt, head.input)


def _first_turn(head: RequestHead, turns: list[RoutedMessage]) -> tuple[bytes, bool]:
    """The beginning of what the user said first, which all of a conversation has in common; whether it has an image."""
    said = next((turn.content for turn in turns if turn.role == "user"), None)
    whole = memoryview(said or head.prompt or head.input)
    text = bytes(whole[:SPAN])
    if any(mark in text for mark in _IMAGE_MARKS):
        return bytes(whole[:IMAGE_SPAN]), True
    return text, False


def _hashes(data: bytes) -> tuple[int, int]:
    """Two 64-bit hashes of the bytes; every process finds these, unlike Python's own hash."""
    first, second = _HASHES.unpack(blake2b(data, digest_size=_HASHES.size).digest())
    return first, second
