"""One process's part in a test that runs: the requests it sends, and the records it writes of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from random import Random
from time import perf_counter, process_time
from typing import BinaryIO

import gevent
from gevent.pool import Group

from loadtests.loadgen import record_parts
from loadtests.loadgen.client import LoadClient
from loadtests.loadgen.options import Options
from loadtests.loadgen.scenarios import ScenarioMix
from loadtests.loadgen.traffic import Traffic
from loadtests.results.record import Record

WATCH_S = 1.0
CPU_WINDOW = 2
"""CPU is measured over so many watches."""


@dataclass(frozen=True)
class ProcessShare:
    """Which part of a test one process has; every process gets one before it starts."""

    index: int
    of: int
    epoch: float
    """When the test begins, s since 1970."""

    def arrivals(self, traffic: Traffic, seed: int) -> Iterator[tuple[int, float]]:
        """The number and the time of this process's arrivals: of all, those whose number falls to it."""
        for number, at in enumerate(traffic.arrivals(Random(seed))):
            if number % self.of == self.index:
                yield number, at


class Session:
    """What the users of this process share while a test runs: the service, the scenarios, the file of records."""

    def __init__(
        self,
        url: str,
        options: Options,
        share: ProcessShare,
        worker: str | None,
        sink: Callable[[Record, list[float]], None],
        watched: Callable[[float], None],
    ) -> None:
        """`sink` is given each request's record and the waits between its texts, s. `worker` is the process's name
        where there are several; `watched` is told the CPU cores it keeps busy."""
        self.options = options
        self._share = share
        self._sink, self._watched = sink, watched
        self._mix = ScenarioMix(options.scenarios, options.settings, options.models)
        self._client = LoadClient(url, options.api_key, options.timeout_s, self._took)
        self._numbers = count(share.index, share.of)
        self._open = Group()
        self._file = self._create(options, worker)
        self.began = perf_counter() + share.epoch - time.time()
        """When the test begins, as perf_counter has it."""
        self.arrivals = self._arrivals()
        """Number and time of this process's arrivals, as perf_counter has it; each is given once, whoever asks."""
        self._watcher = gevent.spawn(self._watch)

    def wait_for_beginning(self) -> None:
        gevent.sleep(max(0.0, self.began - perf_counter()))

    def send(self) -> None:
        """Make and send the next request of a closed loop, and wait for its end."""
        self._send(next(self._numbers), perf_counter())

    def spawn(self, number: int, due: float) -> None:
        """Make and send a request of an open loop, and go on."""
        self._open.spawn(self._send, number, due)

    def drain(self, timeout_s: float | None = None) -> None:
        """Wait for what was spawned; what is not done in time is cut off."""
        try:
            self._open.join(timeout_s)
        finally:
            self._open.kill()

    def close(self) -> None:
        """Cut off what is still open and write the last records."""
        self._open.kill()
        self._watcher.kill()
        self._client.close()
        if self._file:
            self._file.close()
            self._file = None

    def _arrivals(self) -> Iterator[tuple[int, float]]:
        if self.options.traffic:
            for number, at in self._share.arrivals(self.options.traffic, self.options.settings.seed):
                yield number, self.began + at

    def _send(self, number: int, due: float) -> None:
        rng = Random(self.options.settings.seed * 1_000_003 + number)
        self._client.send(self._mix.next(rng, number), due, self.began)

    def _took(self, record: Record, gaps: list[float]) -> None:
        if self._file:
            self._file.write(record.to_line())
        self._sink(record, gaps)

    def _watch(self) -> None:
        self.wait_for_beginning()
        while True:
            since, spent = perf_counter(), process_time()
            for _ in range(CPU_WINDOW):
                gevent.sleep(WATCH_S)
                if self._file:
                    self._file.flush()
            self._watched((process_time() - spent) / (perf_counter() - since))

    @staticmethod
    def _create(options: Options, worker: str | None) -> BinaryIO | None:
        if options.records is None:
            return None
        options.records.parent.mkdir(parents=True, exist_ok=True)
        path = record_parts.part(options.records, worker) if worker else options.records
        return path.open("wb")
