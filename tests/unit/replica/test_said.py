"""What a replica tells of its answers, on its way to another one and back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serve_app.replica.said import BETWEEN, EVENT_END, MARK, Identity, Output, Said, write

ENDED = st.tuples(st.sampled_from(["stop", "length"]), st.none() | st.integers() | st.text())
OUTPUTS = st.builds(
    Output,
    st.lists(st.integers(0, 2**20), max_size=4).map(tuple),
    st.none() | ENDED,
    st.none() | st.lists(st.lists(st.integers() | st.floats(allow_nan=False) | st.text()), min_size=1),
)


@given(st.integers(0, 1000), st.lists(OUTPUTS.filter(lambda one: bytes(one) != b"")))
def test_what_was_said_comes_through(events: int, outputs: list[Output]) -> None:
    marks = [bytes(one) for one in outputs]
    assert not [mark for mark in marks if MARK in mark or BETWEEN in mark or b"\n" in mark or EVENT_END in mark]
    assert Said.read(write(events, BETWEEN.join(marks))) == Said(events, tuple(outputs))


@given(st.uuids(), st.integers(0, 2**40))
def test_an_identity_is_a_headers_value(name: object, began: int) -> None:
    identity = Identity(str(name), began)
    assert Identity.read(bytes(identity)) == identity


def test_only_the_last_output_says_that_an_answer_ended() -> None:
    assert Said(1, (Output((1,)), Output((), ("stop", None)))).ended
    assert not Said(1, (Output((1,)),)).ended and not Said(0, ()).ended
