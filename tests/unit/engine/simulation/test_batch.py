"""The step model, in virtual time."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from serve_app.config.schema import Simulated
from serve_app.engine.simulation.batch import QueueFull, SimulatedBatch
from serve_app.engine.simulation.sequence import Sequence

INSTANT_PREFILL = 1e12


def batch(max_running: int = 8, max_queued: int = 1000, **timing: float | None) -> SimulatedBatch:
    return SimulatedBatch(Simulated(**{"prefill_tokens_per_s": INSTANT_PREFILL, **timing}), max_running, max_queued)


def run(engine: SimulatedBatch) -> list[Sequence]:
    """Everything there is to do, as it comes; who ended, in order."""
    ended = []
    while (at := engine.next_at) is not None:
        ended += [sequence for sequence in engine.step(at) if sequence.ended]
    return ended


@pytest.mark.parametrize("size", [1, 2, 8, 64])
def test_a_step_grows_by_each_further_sequence(size: int) -> None:
    engine = batch(max_running=size, step_base_ms=10, step_per_sequence_ms=0.5)
    sequences = [engine.submit(0.0, 1, 100) for _ in range(size)]
    run(engine)
    step_s = (10 + 0.5 * (size - 1)) / 1000
    assert max(s.ended_at or 0.0 for s in sequences) == pytest.approx(100 * step_s, rel=0.03)


def test_throughput_rises_with_the_batch() -> None:
    def rate(size: int) -> float:
        engine = batch(max_running=size, step_base_ms=10, step_per_sequence_ms=0.1)
        sequences = [engine.submit(0.0, 1, 100) for _ in range(size)]
        run(engine)
        return size * 100 / max(s.ended_at or 0.0 for s in sequences)

    rates = [rate(size) for size in (1, 4, 16, 64)]
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(100, rel=0.02)
    assert rates[-1] < 64 * rates[0]


def test_prefill_delays_its_own_first_token_but_not_who_decodes() -> None:
    engine = batch(prefill_tokens_per_s=1000, step_base_ms=10, step_per_sequence_ms=0)
    first = engine.submit(0.0, 10, 200)
    engine.step(0.5)
    second = engine.submit(0.5, 500, 1)
    run(engine)
    assert first.ended_at == pytest.approx(0.01 + 200 * 0.01)
    assert second.first_token_at is not None
    assert 1.0 < second.first_token_at <= 1.0 + 2 * 0.01 + 1e-9


def test_slowdown_multiplies_a_step() -> None:
    engine = batch(step_base_ms=10)
    engine.slowdown = 3.0
    sequence = engine.submit(0.0, 1, 10)
    run(engine)
    assert sequence.ended_at == pytest.approx(0.3)


def test_first_in_first_out() -> None:
    engine = batch(max_running=2)
    sequences = [engine.submit(0.0, 1, 5) for _ in range(9)]
    assert (engine.running, engine.waiting) == (2, 7)
    assert run(engine) == sequences


def test_who_has_a_lower_priority_goes_first_and_among_equals_who_came_first() -> None:
    engine = batch(max_running=1)
    sequences = [engine.submit(0.0, 1, 5, priority=priority) for priority in (0, 0, 10, -1, 0, -1)]
    assert run(engine) == [sequences[at] for at in (0, 3, 5, 1, 4, 2)]


def test_the_head_of_the_queue_is_not_overtaken_by_what_would_fit() -> None:
    engine = batch(kv_tokens=100)
    engine.submit(0.0, 50, 10)
    large, small = engine.submit(0.0, 50, 10), engine.submit(0.0, 1, 1)
    assert (engine.running, large.state, small.state) == (1, "waiting", "waiting")
    run(engine)
    assert large.first_token_at is not None and small.first_token_at is not None
    assert large.state == small.state == "finished"


def test_the_cache_is_never_overcommitted_and_empty_in_the_end() -> None:
    engine = batch(max_running=64, kv_tokens=1000)
    for _ in range(50):
        engine.submit(0.0, 200, 50)
    assert engine.running == 4
    while (at := engine.next_at) is not None:
        engine.step(at)
        assert 0.0 <= engine.kv_usage <= 1.0
        assert engine.running <= 4
    assert (engine.running, engine.waiting, engine.kv_usage) == (0, 0, 0.0)


def test_what_can_never_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="never fit"):
        batch(kv_tokens=100).submit(0.0, 99, 2)


def test_full_means_running_and_queued() -> None:
    engine = batch(max_running=2, max_queued=1)
    sequences = [engine.submit(0.0, 1, 5) for _ in range(3)]
    with pytest.raises(QueueFull):
        engine.submit(0.0, 1, 5)
    engine.cancel(0.0, sequences[2])
    engine.submit(0.0, 1, 5)


@pytest.mark.parametrize("seed", range(20))
def test_every_sequence_ends_exactly_once(seed: int) -> None:
    chance = random.Random(seed)
    engine = batch(max_running=4, max_queued=6, kv_tokens=400, prefill_tokens_per_s=5000)
    accepted: list[Sequence] = []
    ends: Counter[int] = Counter()
    tokens: Counter[int] = Counter()
    cancelled: set[int] = set()
    now = 0.0

    def advance(to: float) -> None:
        for sequence in engine.step(to):
            tokens[id(sequence)] += bool(sequence.output_tokens)
            if sequence.ended and sequence.emitted == tokens[id(sequence)]:
                ends[id(sequence)] += 1

    for _ in range(300):
        now += chance.expovariate(100)
        while (due := engine.next_at) is not None and due <= now:
            advance(due)
        if chance.random() < 0.2 and accepted:
            victim = chance.choice(accepted)
            if not victim.ended:
                cancelled.add(id(victim))
                ends[id(victim)] += 1
            engine.cancel(now, victim)
            continue
        try:
            accepted.append(engine.submit(now, chance.randint(1, 150), chance.randint(0, 30)))
        except QueueFull:
            assert engine.running + engine.waiting == 10
    while (due := engine.next_at) is not None:
        advance(due)

    assert all(ends[id(sequence)] == 1 for sequence in accepted)
    assert all(tokens[id(s)] == s.emitted for s in accepted)
    assert all((s.state == "cancelled") == (id(s) in cancelled) for s in accepted)
    assert all(s.emitted == s.output_tokens for s in accepted if s.state == "finished")
    assert (engine.running, engine.waiting, engine.kv_usage) == (0, 0, 0.0)


@pytest.mark.parametrize("wait_s", [0.0, 0.005, 0.05])
def test_a_cancelled_sequence_makes_room_at_once(wait_s: float) -> None:
    engine = batch(max_running=1, prefill_tokens_per_s=1000)
    first, second = engine.submit(0.0, 20, 50), engine.submit(0.0, 20, 5)
    engine.step(wait_s)
    engine.cancel(wait_s, first)
    assert (first.state, first.ended_at, second.state) == ("cancelled", wait_s, "prefilling")
    assert run(engine) == [second]


def test_a_late_step_yields_what_was_due_at_its_own_time() -> None:
    engine = batch(step_base_ms=10)
    sequence = engine.submit(0.0, 1, 20)
    assert len(engine.step(60.0)) == 20
    assert sequence.ended_at == pytest.approx(0.2)


def follow(engine: SimulatedBatch, leap: bool, seed: int) -> list[tuple[object, ...]]:
    """What becomes of the same random requests, some of them cancelled, when every step is walked or leapt over."""
    chance = random.Random(seed)
    sequences: list[Sequence] = []
    usage: list[float] = []
    now = 0.0
    for _ in range(200):
        now += chance.expovariate(5)
        while (due := engine.next_change_at if leap else engine.next_at) is not None and due <= now:
            engine.leap(due) if leap else engine.step(due)
        engine.leap(now) if leap else engine.step(now)
        usage.append(engine.kv_usage)
        prompt, output, cancelled = chance.randint(1, 300), chance.randint(0, 200), chance.random() < 0.1
        engine.slowdown = 2.0 if chance.random() < 0.1 else 1.0
        if cancelled and sequences:
            engine.cancel(now, chance.choice(sequences))
        sequences.append(engine.submit(now, prompt, output, cached_tokens=prompt // 3))
    while (due := engine.next_change_at if leap else engine.next_at) is not None:
        engine.leap(due) if leap else engine.step(due)
    assert (engine.running, engine.waiting, engine.kv_usage) == (0, 0, 0.0)
    return [(s.state, s.first_token_at, s.ended_at, s.emitted) for s in sequences] + [tuple(usage)]


@pytest.mark.parametrize("chunk", [None, 64])
@pytest.mark.parametrize("seed", range(10))
def test_leaping_over_steps_gives_the_same_times_as_walking(seed: int, chunk: int | None) -> None:
    timing = {"prefill_tokens_per_s": 3000, "kv_tokens": 3000, "prefill_chunk_tokens": chunk}
    walked, leapt = batch(**timing), batch(**timing)
    assert follow(walked, False, seed) == follow(leapt, True, seed)


def test_a_leap_tells_who_began_and_who_ended() -> None:
    engine = batch(step_base_ms=10)
    sequences = [engine.submit(0.0, 1, 20), engine.submit(0.0, 1, 500)]
    assert engine.leap(1.0) == (sequences, sequences[:1])
    assert sequences[1].emitted == pytest.approx(100, abs=10)
    assert engine.leap(60.0) == ([], sequences[1:])
    assert engine.tokens == 520


def test_a_chunk_of_a_prompt_lengthens_the_step_that_carries_it() -> None:
    engine = batch(prefill_tokens_per_s=1000, prefill_chunk_tokens=101, step_base_ms=10, step_per_sequence_ms=0)
    first = engine.submit(0.0, 100, 200)
    assert engine.next_at == pytest.approx(0.11)
    engine.step(0.495)
    second = engine.submit(0.495, 250, 2)
    run(engine)
    assert first.first_token_at == pytest.approx(0.11)
    assert first.ended_at == pytest.approx(0.11 + 199 * 0.01 + 0.25)
    assert second.first_token_at == pytest.approx(0.5 + 3 * 0.01 + 0.25)
    assert second.ended_at == pytest.approx(0.5 + 4 * 0.01 + 0.25)


@pytest.mark.parametrize("chunk", [None, 64])
def test_a_stall_comes_between_two_steps_and_delays_everyone(chunk: int | None) -> None:
    engine = batch(step_base_ms=10, step_per_sequence_ms=0, prefill_chunk_tokens=chunk)
    decoding = [engine.submit(0.0, 1, 100) for _ in range(3)]
    engine.leap(0.205)
    present = engine.next_at
    assert present is not None and engine.stall(0.205, 0.5) == present + 0.5
    assert engine.next_change_at == present
    late = engine.submit(0.205, 1, 1)
    engine.leap(10)
    assert [one.ended_at for one in decoding] == pytest.approx([1.5] * 3, abs=0.011)
    assert late.first_token_at is not None and late.first_token_at >= present + 0.5


def test_stalls_follow_each_other_and_hold_up_who_comes_to_an_idle_engine() -> None:
    engine = batch(step_base_ms=10)
    assert engine.stall(1.0, 0.5) == 1.5 and engine.stall(1.2, 0.5) == 2.0
    first = engine.submit(1.3, 1, 1)
    run(engine)
    assert first.ended_at == pytest.approx(2.01)
    assert engine.stall(3.0, 0.5) == 3.5
