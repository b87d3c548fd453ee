"""What a client that is over its limit is told."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.accounts.limiter import Limiter, duration
from serve_app.config.keys import UNNAMED, KeyConfig
from serve_app.http.errors import ApiError

NOON = 20_000 * 86_400 + 43_200.0


def keyed(**limits: Any) -> tuple[Limiter, KeyConfig, list[float]]:
    key, clock = KeyConfig(name="a", key="k", **limits), [NOON]
    return Limiter([key], lambda: 1, lambda: clock[0]), key, clock


def refused(limiter: Limiter, key: KeyConfig) -> ApiError:
    with pytest.raises(ApiError) as caught:
        limiter.admit(key, 0)
    return caught.value


def test_a_client_is_told_what_it_has_left() -> None:
    limiter, key, _ = keyed(requests_per_minute=60, tokens_per_minute=1000)
    for _ in range(20):
        limiter.limits["a"].begin(NOON, 0)
    headers = dict(limiter.headers(key))
    assert headers[b"x-ratelimit-limit-requests"] == b"60" and headers[b"x-ratelimit-remaining-requests"] == b"40"
    assert headers[b"x-ratelimit-reset-requests"] == b"2m0s" and headers[b"x-ratelimit-limit-tokens"] == b"1000"
    assert limiter.headers(UNNAMED) == [] and not limiter.headers(KeyConfig(name="b", key="k"))


def test_those_over_the_limit_come_back_one_after_another() -> None:
    limiter, key, clock = keyed(requests_per_minute=60)
    for _ in range(60):
        limiter.admit(key, 0)
    clock[0] += 59.0
    errors = [refused(limiter, key) for _ in range(4)]
    assert {error.status for error in errors} == {429} and {error.code for error in errors} == {"rate_limit_exceeded"}
    waits = [int(dict(error.headers)[b"retry-after-ms"]) for error in errors]
    assert waits == pytest.approx([2000, 3000, 4000, 5000], abs=2)
    assert [error.retry_after_s for error in errors] == pytest.approx([2, 3, 4, 5], abs=1)
    for wait in waits:
        clock[0] = NOON + 59 + wait / 1000 + 0.001
        limiter.admit(key, 0)
        assert refused(limiter, key)


def test_no_client_is_told_to_wait_for_so_long_that_it_does_not() -> None:
    limiter, key, _ = keyed(requests_per_minute=2)
    for _ in range(2):
        limiter.admit(key, 0)
    assert all(refused(limiter, key).retry_after_s in range(1, 61) for _ in range(100))


def test_who_is_at_the_limit_of_a_day_is_told_not_to_try_again() -> None:
    limiter, key, _ = keyed(requests_per_day=1)
    limiter.admit(key, 0)
    error = refused(limiter, key)
    assert error.retry_after_s == 43_200 and (b"x-should-retry", b"false") in error.headers
    assert "requests_per_day: 1" in error.message


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.02, "20ms"), (1.5, "1.5s"), (59.96, "60s"), (60, "1m0s"), (360, "6m0s"), (3661, "1h1m1s")],
)
def test_a_duration_is_written_as_openai_writes_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text
