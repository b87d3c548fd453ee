"""A batch's way to the engines, where its key has limits."""

from __future__ import annotations

from collections.abc import Callable

from serve_app.accounts.key_limits import TokenUse
from serve_app.accounts.limiter import Limiter
from serve_app.batch.run.pooled import PoolClient
from serve_app.config.keys import KeyConfig
from serve_app.replica.tally import Tally
from tests.unit.batch.conftest import Engine

NOON = 20_000 * 86_400 + 43_200.0
BODY = b'{"model": "m", "prompt": "a"}'


async def test_lines_over_their_keys_tokens_wait_and_ask_for_no_replica(
    client: Callable[..., PoolClient], engine: Engine
) -> None:
    key, now = KeyConfig(name="a", key="k", tokens_per_day=10_000, requests_per_day=1), [NOON]
    limiter = Limiter([key.model_copy(update={"requests_per_day": None})], lambda: 1, lambda: now[0])
    engine.go.set()
    lines = PoolClient(client()._router, key, limiter)
    assert [(await lines.send("/v1/completions", BODY)).status for _ in range(3)] == [200] * 3
    made = Tally()
    made.add(NOON, 10_000)
    limiter.limits["a"].made([TokenUse(made.fact(), 3, 10_000)])
    refused = await lines.send("/v1/completions", BODY)
    assert (refused.status, refused.retry_after_s) == (429, 43_200) and "tokens_per_day" in str(lines.stuck)
    assert len(engine.prompts) == 3 and engine.keys == {"a"} and not any(lines.open.values())
    now[0] += 43_200
    assert (await lines.send("/v1/completions", BODY)).status == 200 and lines.stuck is None
