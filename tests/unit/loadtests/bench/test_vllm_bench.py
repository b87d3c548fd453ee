"""What the load client is told, and what is read of its answer."""

from __future__ import annotations

import pytest

from loadtests.bench import vllm_bench
from loadtests.bench.loads import GREEDY, chat, image, shared_prefix
from loadtests.bench.suites import SUITES
from loadtests.results.slo import Slo

RESULT = {
    "output_throughput": 640.0,
    "request_throughput": 10.0,
    "p50_ttft_ms": 11.0,
    "p99_ttft_ms": 12.0,
    "mean_tpot_ms": 3.0,
    "p99_tpot_ms": 4.0,
    "request_goodput": 9.0,
    "completed": 14,
    "duration": 2.0,
}


def test_requests_that_did_not_complete_are_errors() -> None:
    sample = vllm_bench._read(RESULT, client_cpu_s=1.0, wanted=16)
    assert (sample.errors, sample.client_cores, sample.goodput_per_s) == (2, 0.5, 9.0)


@pytest.mark.parametrize("nothing", [{"completed": 0}, {"output_throughput": 0.0}])
def test_a_service_that_answers_nothing_is_not_measured(nothing: dict[str, float]) -> None:
    with pytest.raises(vllm_bench.BenchFailed, match="no token"):
        vllm_bench._read({**RESULT, **nothing}, client_cpu_s=1.0, wanted=16)


@pytest.mark.parametrize("load", [chat(4), shared_prefix(8, 2, 64, 8, 8), image(2, 512, 8, 8)])
def test_every_load_names_its_streams_and_sampling(load: object) -> None:
    words = vllm_bench._arguments("http://x", "m", "t", load, Slo.parse("ttft=500ms,tpot=50ms"), 1, "/tmp")
    assert words[words.index("--max-concurrency") + 1] == str(load.streams)
    assert set(GREEDY) <= set(words)
    assert words[words.index("--goodput") + 1 :] == ["ttft:500", "tpot:50"]


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_has_its_baseline(name: str) -> None:
    suite = SUITES[name]("")
    assert suite.baseline in suite.contenders and suite.loads
