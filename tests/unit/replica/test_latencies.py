"""Latencies as the conventions for model servers measure them."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from serve_app.replica.latencies import Latencies
from serve_app.replica.ledger import Account, Ledger, Timing, current

CHAT = "/v1/chat/completions"


class Counted:
    """What a replica tells of requests that a test lets end."""

    def __init__(self) -> None:
        self.ledger = Ledger("m")
        latencies = Latencies("m")
        self.ledger.ended.append(latencies.ended)
        self._registry = CollectorRegistry()
        self._registry.register(latencies)

    def request(self, *timings: Timing | None, status: int = 200, route: str = CHAT, waited_s: float = 0.0) -> None:
        """One whose first tokens come so many seconds after it, by their `first_token_at`."""
        with self.ledger.account(Account("", route=route, waited_s=waited_s)):
            account = current.get()
            account.status = status
            for one in timings:
                told = one and one._replace(first_token_at=account.arrived + one.first_token_at)
                account.timings.append(lambda told=told: told)

    def value(self, name: str, operation: str = "chat", **labels: str) -> float | None:
        labels |= {
            "gen_ai_operation_name": operation,
            "gen_ai_provider_name": "serve_app",
            "gen_ai_request_model": "m",
        }
        return self._registry.get_sample_value(f"gen_ai_server_{name}", labels)


def test_a_requests_time_begins_with_its_wait() -> None:
    counted = Counted()
    counted.request(Timing(0.2, 1.0, 20), Timing(0.1, 3.0, 10), waited_s=5)
    assert counted.value("time_to_first_token_seconds_sum") == pytest.approx(5.1, abs=0.01)
    assert counted.value("time_per_output_token_seconds_sum") == pytest.approx(0.05 + 0.3)
    assert counted.value("time_per_output_token_seconds_count") == 2
    assert counted.value("time_per_output_token_seconds_bucket", le="0.05") == 1
    assert counted.value("request_duration_seconds_sum", error_type="") == pytest.approx(5, abs=0.1)


def test_only_what_succeeds_has_a_first_token() -> None:
    counted = Counted()
    counted.request(status=400)
    counted.request(status=0)
    counted.request(None)
    counted.request(Timing(0.1, 0.0, 0))
    assert [counted.value("request_duration_seconds_count", error_type=one) for one in ("400", "499", "")] == [1, 1, 2]
    assert counted.value("time_to_first_token_seconds_count") == 1
    assert counted.value("time_per_output_token_seconds_count") == 0


def test_routes_are_operations_and_a_tokenizers_work_is_none() -> None:
    counted = Counted()
    for route in ("/v1/completions", "/v1/embeddings", "/v1/rerank", "/tokenize"):
        counted.request(route=route)
    found = {one: counted.value("request_duration_seconds_count", one, error_type="") for one in OPERATIONS}
    assert found == {"text_completion": 1, "embeddings": 1, "rerank": 1, "tokenize": None}


OPERATIONS = ("text_completion", "embeddings", "rerank", "tokenize")
