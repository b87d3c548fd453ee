"""What a replica says it has made for each key."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from serve_app.replica.ledger import Account, Ledger, Used, current, sums

DAY = 20_000
NOON = DAY * 86_400 + 43_200.0


class Engine:
    """One sequence that goes on when it is told."""

    def __init__(self) -> None:
        self.used = Used()

    def __call__(self) -> Used:
        return self.used


def test_a_request_counts_while_it_is_open_and_however_it_ends() -> None:
    ledger, engine = Ledger("m", lambda: NOON), Engine()
    with pytest.raises(ConnectionError), ledger.account(Account("a")):
        current.get().sequences.append(engine)
        assert ledger.fact()["keys"] == {}
        engine.used = Used(10, 4, 1)
        assert sums(ledger.fact()["keys"]["a"]) == (1, 11)
        engine.used = Used(10, 4, 7)
        raise ConnectionError
    engine.used = Used(10, 4, 9)
    found = ledger.fact()["keys"]["a"]
    assert found["ever"] == [1, 10, 4, 7] and found["days"] == {str(DAY): [1, 10, 4, 7]} and sums(found) == (1, 17)
    assert current.get(None) is None


def test_days_are_told_apart_and_the_one_before_yesterday_is_over() -> None:
    clock = [NOON]
    ledger = Ledger("m", lambda: clock[0])
    for day in range(3):
        clock[0] = NOON + day * 86_400
        with ledger.account(Account("a")):
            current.get().sequences.append(lambda: Used(1, 0, 1))
    assert list(ledger.fact()["keys"]["a"]["days"]) == [str(DAY + 1), str(DAY + 2)]
    assert ledger.fact()["keys"]["a"]["ever"] == [3, 3, 0, 3]


def test_keys_are_metrics_with_cached_tokens_apart() -> None:
    ledger, registry = Ledger("m", lambda: NOON), CollectorRegistry()
    registry.register(ledger)
    for key in ("a", ""):
        with ledger.account(Account(key)):
            current.get().sequences.extend([lambda: Used(10, 4, 7), lambda: Used(output=3)])
    text = generate_latest(registry).decode()
    for kind, value in (("prompt", 10), ("cached", 4), ("output", 10)):
        for key in ("a", ""):
            assert f'serve_app_tokens_total{{key="{key}",kind="{kind}",model="m"}} {value}.0' in text
