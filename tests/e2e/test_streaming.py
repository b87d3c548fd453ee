"""How many tokens a chunk holds, with vLLM's own output processor and tokens that are made up."""

from __future__ import annotations

import random

import pytest
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.output_processor import OutputProcessor, RequestOutputCollector

from serve_app.engine.streaming import set_interval, tokens_per_chunk


class Streams:
    """Requests that an engine answers with 0, 1, 2, ..., one token a step."""

    def __init__(self, interval: int) -> None:
        self.processor = OutputProcessor(None, log_stats=False, stream_interval=interval)
        self.sent: dict[str, list[list[int]]] = {}
        self._queues: dict[str, RequestOutputCollector] = {}

    def begin(self, id: str, own_interval: int | None = None) -> None:
        params = SamplingParams(
            max_tokens=99, detokenize=False, output_kind=RequestOutputKind.DELTA, stream_interval=own_interval
        )
        request = EngineCoreRequest(id, [1], None, params, None, 0.0, None, None, None)
        request.external_req_id = id
        self._queues[id] = RequestOutputCollector(RequestOutputKind.DELTA, id)
        self.processor.add_request(request, None, queue=self._queues[id])
        self.sent[id] = []

    def step(self, id: str, token: int, last: bool = False) -> None:
        reason = FinishReason.LENGTH if last else None
        self.processor.process_outputs([EngineCoreOutput(id, [token], finish_reason=reason)])
        if chunk := self._queues[id].get_nowait():
            self.sent[id].append(list(chunk.outputs[0].token_ids))


@pytest.mark.parametrize(("streams", "tokens"), [(1, 1), (31, 1), (32, 2), (63, 2), (64, 4), (500, 4)])
def test_more_streams_get_longer_chunks(streams: int, tokens: int) -> None:
    assert tokens_per_chunk(streams) == tokens


def test_open_streams_get_longer_chunks_too() -> None:
    streams = Streams(1)
    streams.begin("a")
    for token in range(12):
        set_interval(streams.processor, 4 if 3 <= token < 6 else 1)
        streams.step("a", token, last=token == 11)
    assert streams.sent["a"] == [[0], [1], [2], [3, 4, 5, 6], [7, 8, 9, 10], [11]]


def test_what_a_request_asks_for_itself_stays() -> None:
    streams = Streams(1)
    streams.begin("a", own_interval=5)
    for token in range(12):
        set_interval(streams.processor, 2 if token < 6 else 1)
        streams.step("a", token, last=token == 11)
    assert streams.sent["a"] == [[0], [1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [11]]


def test_every_token_is_sent_once_and_in_order_whatever_changes_when() -> None:
    rng = random.Random(5)
    streams = Streams(1)
    open_ids: dict[str, int] = {}
    ended = 0
    while ended < 200:
        set_interval(streams.processor, rng.choice([1, 1, 2, 4]))
        if len(open_ids) < 20 and rng.random() < 0.5:
            id = str(len(streams.sent))
            streams.begin(id)
            open_ids[id] = 0
        for id, count in list(open_ids.items()):
            last = count > 3 and rng.random() < 0.1
            streams.step(id, count, last)
            open_ids[id] += 1
            if last:
                assert [token for chunk in streams.sent[id] for token in chunk] == list(range(count + 1))
                del open_ids[id]
                ended += 1
