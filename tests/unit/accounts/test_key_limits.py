"""One key's limits, in one process and in several that tell each other what they use."""

from __future__ import annotations

import random
from typing import Any

import pytest

from serve_app.accounts.key_limits import KeyLimits, ProcessUse, TokenUse
from serve_app.config.keys import KeyConfig
from serve_app.replica.tally import Tally

NOON = 20_000 * 86_400 + 43_200.0


def limits(shares: int = 1, **limits: Any) -> KeyLimits:
    return KeyLimits(KeyConfig(name="a", key="k", **limits), shares)


def passed(one: KeyLimits, now: float, requests: int, size: int = 0) -> int:
    """How many of so many that come at once are let in; they stay open."""
    count = 0
    for _ in range(requests):
        if one.exceeded(now, size) is None:
            one.begin(now, size)
            count += 1
    return count


def shared(processes: list[KeyLimits]) -> None:
    """A step in which all tell and all learn."""
    told = [one.tell() for one in processes]
    for index, one in enumerate(processes):
        one.learn(told[:index] + told[index + 1 :])


def made(tokens: int, requests: int, at: float = NOON) -> TokenUse:
    tally = Tally()
    tally.add(at, tokens)
    return TokenUse(tally.fact(), requests, tokens)


def test_a_limit_of_requests_is_exact_in_one_process() -> None:
    one = limits(requests_per_minute=60)
    assert passed(one, NOON + 1, 200) == 60
    exceeded = one.exceeded(NOON + 1, 0)
    assert exceeded is not None and exceeded.limit == "requests_per_minute" and exceeded.wait_s == pytest.approx(60)
    assert passed(one, NOON + 90, 200) == 30


def test_two_processes_share_a_limit_however_requests_are_spread() -> None:
    for share in (0.5, 0.9, 1.0):
        processes, chance = [limits(2, requests_per_minute=60), limits(2, requests_per_minute=60)], random.Random(1)
        total = 0
        for step in range(12):
            now = NOON + step / 2
            for _ in range(17):
                total += passed(processes[chance.random() > share], now, 1)
            shared(processes)
        assert 54 <= total <= 66, share


def test_a_burst_before_anybody_has_heard_of_the_other_is_divided() -> None:
    processes = [limits(2, requests_per_minute=60), limits(2, requests_per_minute=60)]
    assert sum(passed(one, NOON, 200) for one in processes) == 60
    shared(processes)
    assert sum(passed(one, NOON + 1, 200) for one in processes) == 0


def test_a_limit_below_the_number_of_processes_is_one_each() -> None:
    processes = [limits(4, requests_per_minute=2) for _ in range(4)]
    assert [passed(one, NOON, 3) for one in processes] == [1, 1, 1, 1]


def test_a_process_that_starts_knows_of_the_day() -> None:
    before = limits(requests_per_day=10)
    assert passed(before, NOON, 8) == 8
    after = limits(requests_per_day=10)
    after.learn([ProcessUse(before.tell().requests)])
    assert passed(after, NOON + 1, 8) == 2
    assert passed(after, NOON + 43_200, 8) == 8


def test_what_others_use_is_not_divided_again_while_nothing_is_heard_of_them() -> None:
    one = limits(2, requests_per_minute=60)
    other = Tally()
    other.add(NOON, 20)
    one.learn([ProcessUse(other.fact())])
    assert passed(one, NOON, 60) == 20
    one.tell()
    one.learn(None)
    assert passed(one, NOON, 60) == 10


def test_parallel_requests_are_counted_until_they_end() -> None:
    one = limits(parallel=3)
    assert passed(one, NOON, 5) == 3
    one.end()
    assert passed(one, NOON, 5) == 1
    processes = [limits(2, parallel=10), limits(2, parallel=10)]
    assert passed(processes[0], NOON, 20) == 5
    for _ in range(5):
        shared(processes)
        passed(processes[0], NOON, 20)
    assert processes[0].tell().open in (9, 10) and passed(processes[1], NOON, 20) <= 1


def test_tokens_count_when_they_are_made_and_open_requests_as_those_before() -> None:
    one = limits(tokens_per_minute=10_000)
    first = passed(one, NOON, 100)
    assert 30 < first < 60, "nothing is known yet: a guess"
    for _ in range(first):
        one.end()
        one.release(one.expected(0))
    one.made([made(0, 0)])
    one.made([made(4_000, 4)])
    assert one.expected(0) == 1_000
    assert passed(one, NOON, 100) == 6
    assert one.remaining_tokens(NOON) is not None and one.remaining_tokens(NOON).left == 0  # type: ignore[union-attr]


def test_a_request_larger_than_what_is_left_comes_alone() -> None:
    one = limits(tokens_per_minute=100)
    assert passed(one, NOON, 5, size=100_000) == 1
    one.made([made(100, 1)])
    one.release(10**9)
    exceeded = one.exceeded(NOON + 1, 10)
    assert exceeded is not None and exceeded.limit == "tokens_per_minute" and exceeded.wait_s > 59


def test_the_limit_of_which_less_is_left_is_told() -> None:
    one = limits(requests_per_minute=60, requests_per_day=100)
    passed(one, NOON, 10)
    assert one.remaining_requests(NOON).most == 60  # type: ignore[union-attr]
    for minute in range(1, 9):
        passed(one, NOON + 120 * minute, 10)
    told = one.remaining_requests(NOON + 120 * 8 + 60)
    assert told is not None and (told.most, told.left) == (100, 10) and told.reset_s > 40_000
    assert one.remaining_tokens(NOON) is None
