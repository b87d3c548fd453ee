"""Which requests belong together."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from typing import Any

import pytest

from serve_app.routing.affinity import affinity_key
from serve_app.routing.head import read_head
from serve_app.routing.picker import Key

CHAT = "/v1/chat/completions"
LONG = "You answer questions about the service. " * 40
HELLO = [{"role": "system", "content": LONG}, {"role": "user", "content": "hello"}]


def key(path: str = CHAT, session: str = "", **body: Any) -> Key | None:
    headers = [(b"content-type", b"application/json"), *([(b"x-session-id", session.encode())] if session else [])]
    scope = {"path": path, "headers": headers}
    return affinity_key(scope, read_head(scope, json.dumps({"model": "m", **body}).encode()))


def home(*args: Any, **body: Any) -> int:
    found = key(*args, **body)
    assert found is not None
    return found[0]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def photo(data: str, question: str = "What is this?") -> dict[str, Any]:
    url = {"url": f"data:image/jpeg;base64,{data}"}
    return {"role": "user", "content": [{"type": "image_url", "image_url": url}, {"type": "text", "text": question}]}


@pytest.mark.parametrize(
    ("path", "one", "other"),
    [
        (CHAT, {"messages": HELLO}, {"messages": [HELLO[0], user("bye")], "temperature": 0}),
        (
            CHAT,
            {"messages": [user(LONG)]},
            {"messages": [user(LONG), {"role": "assistant", "content": "a"}, user("b")]},
        ),
        (CHAT, {"messages": [user("a")], "tools": [LONG]}, {"messages": [user("b")], "tools": [LONG]}),
        ("/v1/completions", {"prompt": LONG}, {"prompt": LONG + "b"}),
        ("/v1/completions", {"prompt": [LONG, "a"]}, {"prompt": [LONG, "b"]}),
        ("/v1/completions", {"prompt": list(range(1000))}, {"prompt": list(range(2000))}),
        ("/v1/responses", {"instructions": LONG, "input": "a"}, {"instructions": LONG, "input": [user("b")]}),
        ("/v1/responses", {"input": LONG}, {"input": LONG + "b"}),
        ("/v1/messages", {"system": LONG, "messages": [user("a")]}, {"system": LONG, "messages": [user("b")]}),
        ("/v1/messages", {"system": [{"type": "text", "text": LONG}]}, {"system": [{"type": "text", "text": LONG}]}),
    ],
)
def test_what_begins_alike_belongs_together(path: str, one: dict[str, Any], other: dict[str, Any]) -> None:
    assert home(path, **one) == home(path, **other)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": [user("!" + LONG)]}),
        (CHAT, {"messages": [user(LONG)], "tools": [LONG]}),
        ("/v1/completions", {"prompt": "!" + LONG}),
        ("/v1/completions", {"prompt": list(range(1000))}),
    ],
)
def test_what_begins_otherwise_does_not(path: str, body: dict[str, Any]) -> None:
    assert key(path, **body) is not None and home(path, **body) != home(messages=HELLO)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {}),
        (CHAT, {"messages": []}),
        (CHAT, {"messages": None}),
        (CHAT, {"messages": [{"role": "user"}, {"role": "assistant", "content": None}]}),
        (CHAT, {"messages": [user("hello")], "prompt_cache_key": None}),
        (CHAT, {"messages": [user("hello")], "prompt_cache_key": ""}),
        (CHAT, {"messages": [user('about "image_url" and "base64"')]}),
        ("/v1/completions", {"prompt": "short"}),
        ("/v1/completions", {"prompt": [1, 2, 3]}),
        ("/v1/responses", {"input": "short"}),
        ("/v1/embeddings", {"input": LONG}),
        ("/tokenize", {"messages": HELLO}),
    ],
)
def test_what_shares_too_little_has_no_key(path: str, body: dict[str, Any]) -> None:
    assert key(path, **body) is None


def test_a_session_by_name_comes_before_the_prefix_which_is_its_second_place() -> None:
    named, other = key(messages=HELLO, prompt_cache_key="a"), key(messages=HELLO, prompt_cache_key="b")
    assert named and other and named[0] != other[0] and named[1] == other[1] == home(messages=HELLO)
    by_header, short = key(messages=HELLO, session="a"), key(messages=[user("x")], session="a")
    assert by_header and short and by_header[0] == short[0]
    assert key(messages=HELLO, prompt_cache_key="a", session="s") == named
    assert key(messages=[user("x")], prompt_cache_key="a") == key(messages=[user("y")], prompt_cache_key="a")
    assert key(messages=HELLO, session_id="a") == key(messages=HELLO, session="a")
    assert key(messages=HELLO, session_id="a", session="s") == key(messages=HELLO, session_id="a")
    assert key(messages=HELLO, prompt_cache_key="", session_id=None, session="s") == key(messages=HELLO, session="s")


def test_what_the_engine_will_refuse_has_its_place_too() -> None:
    odd = [{"role": "custom", "content": LONG}, {"role": "user", "content": 3}]
    assert key(messages=odd) is not None
    for messages in ("x", 3, {}, [1], [[]], [None], [{"role": 1, "content": LONG}]):
        assert key(messages=messages, prompt_cache_key=7) is not None
        assert key(messages=messages) is None


def test_turns_without_end_are_not_all_looked_at() -> None:
    begins = [user("a")] * 100_000
    assert key(messages=begins) is None and key(messages=[{"role": "system", "content": LONG}, *begins]) is not None


def test_conversations_under_one_system_prompt_differ_in_their_second_place() -> None:
    begun, other = key(messages=HELLO), key(messages=[HELLO[0], user("bye")])
    grown = key(messages=[*HELLO, {"role": "assistant", "content": "a"}, user("b")])
    assert begun and other and begun == grown and begun[1] != other[1]


def test_an_image_is_told_apart_behind_its_header_and_kept_with_its_questions() -> None:
    same_header = "A" * 2000
    cat, dog = photo(same_header + "c" * 20_000), photo(same_header + "d" * 20_000)
    assert home(messages=[cat]) != home(messages=[dog])
    assert home(messages=[cat]) == home(messages=[photo(same_header + "c" * 20_000, "Is it a cat?")])
    assert home(messages=[photo("tiny")]) == home(messages=[photo("tiny"), user("And now?")])
    by_address = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a/x.png"}}]}
    assert key(messages=[by_address]) is not None
    anthropic = {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "tiny"}}]}
    assert key("/v1/messages", messages=[anthropic]) is not None


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [photo("A" * 5_000_000)]},
        {"messages": HELLO, "tools": ["A" * 5_000_000]},
        {"messages": HELLO, "prompt_cache_key": "A" * 5_000_000},
        {"messages": HELLO, "session_id": "A" * 5_000_000},
        {"messages": [HELLO[0], *[{"role": "user"}] * 300_000]},
    ],
)
def test_megabytes_are_not_copied(body: dict[str, Any]) -> None:
    scope = {"path": CHAT, "headers": [(b"content-type", b"application/json")]}
    encoded = json.dumps(body).encode()
    tracemalloc.start()
    try:
        assert affinity_key(scope, read_head(scope, encoded)) is not None
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_another_process_finds_the_same_key() -> None:
    code = (
        "from serve_app.routing.affinity import affinity_key; from serve_app.routing.head import RequestHead;"
        f"print(affinity_key({{'path': {CHAT!r}, 'headers': [(b'x-session-id', b'a')]}}, RequestHead()))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(key(session="a"))
