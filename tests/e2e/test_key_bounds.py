"""What a key bounds and a request has had, on vLLM's own interfaces with nothing behind them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from vllm.exceptions import VLLMValidationError

from serve_app.engine.accounts import install
from serve_app.replica.ledger import Account, Ledger, Used, current


class Processors:
    """An engine's output and input processor."""

    def __init__(self) -> None:
        self.request_states: dict[str, Any] = {}
        self.assigned: list[Any] = []

    def add_request(self, request: Any, *_: Any) -> None:
        detokenizer = SimpleNamespace(num_output_tokens=lambda: 7)
        state = SimpleNamespace(is_prefilling=True, prompt_len=10, num_cached_tokens=4, detokenizer=detokenizer)
        self.request_states[request.request_id] = state

    def assign_request_id(self, request: Any) -> None:
        self.assigned.append(request)


def asked(prompt: int, max_tokens: int | None = None, min_tokens: int = 0) -> Any:
    sampling = SimpleNamespace(max_tokens=max_tokens, min_tokens=min_tokens)
    return SimpleNamespace(request_id="a", prompt_token_ids=[1] * prompt, sampling_params=sampling)


@pytest.fixture
def engine() -> Processors:
    engine = Processors()
    install(SimpleNamespace(output_processor=engine, input_processor=engine))
    return engine


def test_answers_to_one_prompt_count_it_once_and_when_it_is_processed(engine: Processors) -> None:
    ledger = Ledger("m", lambda: 0.0)
    with ledger.account(account := Account("a")):
        for index in range(2):
            request = SimpleNamespace(request_id=str(index))
            engine.add_request(request, None, None, index, None)
        assert [one() for one in account.sequences] == [Used()] * 2
        for state in engine.request_states.values():
            state.is_prefilling = False
    assert account.counted == Used(10, 4, 14)


@pytest.mark.parametrize(
    ("given", "kept"), [((None, 0), (5, 0)), ((3, 1), (3, 1)), ((9, 8), (5, 5))], ids=["none", "less", "more"]
)
def test_a_key_bounds_the_answer(engine: Processors, given: tuple[Any, int], kept: tuple[int, int]) -> None:
    with Ledger("m").account(Account("a", most_prompt=3, most_output=5)):
        engine.assign_request_id(asked(3, *given))
    sampling = engine.assigned[0].sampling_params
    assert (sampling.max_tokens, sampling.min_tokens) == kept


def test_a_longer_prompt_than_the_keys_is_the_clients_error(engine: Processors) -> None:
    with (
        Ledger("m").account(Account("a", most_prompt=3)),
        pytest.raises(VLLMValidationError, match="4 tokens, and the key 'a' may send 3 "),
    ):
        engine.assign_request_id(asked(4))
    assert not engine.assigned


def test_what_no_account_is_open_for_is_as_it_was(engine: Processors) -> None:
    assert current.get(None) is None
    engine.add_request(SimpleNamespace(request_id="a"), None, None, 0, None)
    engine.assign_request_id(request := asked(9))
    assert engine.assigned == [request] and request.sampling_params.max_tokens is None
