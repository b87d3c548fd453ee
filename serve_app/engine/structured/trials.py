"""Grammars on trial: each is compiled once in a process beside this one, within limits, and the verdict is kept."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from serve_app.engine.structured.bounds import UnusableConstraint

CPU_S = 15.0
"""CPU time one trial may take. With a vocabulary of 65,536 tokens a string of `maxLength` 100 took 3.4 s on a loaded
machine, one of 500 and more up to 7.7 s."""
MEMORY_MIB = 512
WALL_S = 60.0
"""For a machine with no time to spare; then nothing is said of the grammar."""
QUEUED_MOST = 16
KEPT = 4096
"""Verdicts, newest first."""
_LINE_BYTES = 1024 * 1024
_WORKER = Path(__file__).with_name("worker.py")


class Busy(Exception):
    """Nobody could say now whether the grammar can be used."""


@dataclass
class _Trial:
    task: asyncio.Task[str | None]
    waiters: int = 0


class Trials:
    """Verdicts on grammars. Its process starts with the first trial, and again after it was ended."""

    def __init__(self, tokenizer: Callable[[], str], cpu_s: float = CPU_S) -> None:
        """`tokenizer` gives xgrammar's serialized TokenizerInfo, and may take a second."""
        self._tokenizer = tokenizer
        self._cpu_s = cpu_s
        self._verdicts: OrderedDict[bytes, str | None] = OrderedDict()
        self._running: dict[bytes, _Trial] = {}
        self._turn = asyncio.Lock()
        self._process: Process | None = None

    def known(self, kind: str, spec: str) -> bool:
        """Whether a verdict is kept and it is favourable."""
        return self._verdicts.get(_digest(kind, spec), "") is None

    async def check(self, kind: str, spec: str) -> None:
        """Return if the grammar can be used.

        Raises UnusableConstraint with the reason if not, and Busy if too many trials are waiting or the machine is too
        slow.
        Who is the last to wait for a trial and is cancelled ends it.
        """
        digest = _digest(kind, spec)
        if digest not in self._verdicts:
            await self._wait(digest, kind, spec)
        self._verdicts.move_to_end(digest)
        if reason := self._verdicts[digest]:
            raise UnusableConstraint(reason)

    async def close(self) -> None:
        """End the process."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def _wait(self, digest: bytes, kind: str, spec: str) -> None:
        trial = self._running.get(digest)
        if trial is None:
            if len(self._running) > QUEUED_MOST:
                raise Busy("too many new grammars are being compiled: try again in some seconds")
            trial = self._running[digest] = _Trial(asyncio.create_task(self._try(kind, spec)))
            trial.task.add_done_callback(lambda _: self._running.pop(digest, None))
        trial.waiters += 1
        try:
            verdict = await asyncio.shield(trial.task)
        finally:
            trial.waiters -= 1
            if not trial.waiters:
                self._running.pop(digest, None)
                trial.task.cancel()
        self._verdicts[digest] = verdict
        while len(self._verdicts) > KEPT:
            self._verdicts.popitem(last=False)

    async def _try(self, kind: str, spec: str) -> str | None:
        async with self._turn:
            process = await self._ready()
            assert process.stdin is not None and process.stdout is not None
            child = None
            try:
                process.stdin.write(json.dumps({"kind": kind, "spec": spec}).encode() + b"\n")
                child = int(await process.stdout.readline())
                async with asyncio.timeout(WALL_S):
                    answer = await process.stdout.readline()
                reason: str | None = json.loads(answer)["refused"]
                return reason
            except (TimeoutError, asyncio.CancelledError) as ended:
                if child is None:
                    await self.close()
                else:
                    os.kill(child, signal.SIGKILL)
                    await process.stdout.readline()
                if isinstance(ended, TimeoutError):
                    raise Busy("the grammar could not be compiled in time: try again") from None
                raise
            except (ValueError, OSError) as error:
                await self.close()
                raise Busy("the grammar could not be compiled: try again") from error

    async def _ready(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            tokenizer = await asyncio.to_thread(self._tokenizer)
            command = (sys.executable, "-P", str(_WORKER), str(self._cpu_s), str(MEMORY_MIB))
            self._process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=_LINE_BYTES)
            assert self._process.stdin is not None
            self._process.stdin.write(tokenizer.encode() + b"\n")
        return self._process


def _digest(kind: str, spec: str) -> bytes:
    return hashlib.blake2b(f"{kind}\n{spec}".encode(errors="surrogatepass"), digest_size=20).digest()
