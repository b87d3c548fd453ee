"""A contender as a process tree: started, asked whether it answers correctly, its CPU time read, ended."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from loadtests.bench.peers.setup import PeerSetup
from serve_app.launching.events import Event, read
from serve_app.launching.guard import Guard, marked
from serve_app.launching.log import ServiceLog
from serve_app.launching.processes import Family
from serve_app.launching.processes import title as title_of

START_TIMEOUT_S = 420.0
READY_PERIOD_S = 0.25
STOP_PATIENCE_S = 20.0
CHECKED_TOKENS = 8
ENGINE = "VLLM::EngineCore"
"""How the title of vLLM's engine process begins."""


@dataclass(frozen=True)
class Peer:
    """How one contender is started."""

    name: str
    command: list[str]
    url: str
    environment: dict[str, str] = field(default_factory=dict)
    ready_path: str = "/v1/models"
    """Answers 200 once every replica serves."""
    ready_models: int | None = None
    """Replicas that `ready_path` must report, where it reports them."""
    events: Path | None = None
    """Where `serve-app up` writes what happens to it, if it is what is started."""


class DidNotServe(Exception):
    """A contender did not start, or answered wrongly; says what its log said last."""


class RunningPeer:
    """One contender, running."""

    def __init__(self, peer: Peer, setup: PeerSetup, folder: Path) -> None:
        self.peer = peer
        self._setup = setup
        self.log = folder / f"{peer.name.replace(' ', '-').replace('/', '-')}.log"
        self._family = Family(uuid.uuid4().hex)
        self._guard = Guard(self._family)
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RunningPeer:
        environment = {**os.environ, **self._setup.environment, **self.peer.environment, **self.mark}
        self._guard.__enter__()
        try:
            with self.log.open("wb") as log:
                self._child = subprocess.Popen(
                    self.peer.command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
                )
            self._wait_ready()
            self._check_answers()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    @property
    def mark(self) -> dict[str, str]:
        """Variables for processes that are to end with it, even where this process is killed."""
        return marked(self._family)

    def serves(self) -> bool:
        """Whether its first process runs and it answers who asks whether it is there."""
        return self._child is not None and self._child.poll() is None and self._ready()

    def cpu_seconds(self) -> float:
        """CPU time that its living processes have used so far."""
        return sum(map(_cpu_seconds, self._family.members()))

    def events(self) -> list[Event]:
        """What has happened to it since its start, where it tells."""
        return read(self.peer.events) if self.peer.events else []

    def processes(self, title: str) -> list[int]:
        """Ids of its living processes that have a title that begins so."""
        return [pid for pid in self._family.members() if title_of(pid).startswith(title)]

    def _wait_ready(self) -> None:
        assert self._child is not None
        began = time.monotonic()
        log = ServiceLog(self.log)
        while not self._ready():
            log.news()
            if log.failed:
                raise DidNotServe(f"{self.peer.name}: Ray Serve gave up on it: {self._last_words()}")
            if self._child.poll() is not None:
                raise DidNotServe(f"{self.peer.name} ended with {self._child.returncode}: {self._last_words()}")
            if time.monotonic() > began + START_TIMEOUT_S:
                raise DidNotServe(f"{self.peer.name} was not ready after {START_TIMEOUT_S:g} s: {self._last_words()}")
            self._family.members()
            time.sleep(READY_PERIOD_S)

    def _ready(self) -> bool:
        try:
            page = _json(f"{self.peer.url}{self.peer.ready_path}")
        except (OSError, ValueError):
            return False
        if self.peer.ready_models is None:
            return True
        return bool(page["models"][self._setup.model]["ready"] >= self.peer.ready_models)

    def _check_answers(self) -> None:
        """It must give as many tokens as asked for, and the known answer where there is one."""
        try:
            body = {"model": self._setup.model, "prompt": "The", "max_tokens": CHECKED_TOKENS, "ignore_eos": True}
            given = _json(f"{self.peer.url}/v1/completions", body)["usage"]["completion_tokens"]
            if given != CHECKED_TOKENS:
                raise DidNotServe(f"{self.peer.name} gave {given} tokens for {CHECKED_TOKENS}")
            for model, answer in self._answers().items():
                messages = [{"role": "user", "content": self._setup.question}]
                chat = _json(
                    f"{self.peer.url}/v1/chat/completions",
                    {"model": model, "messages": messages, "temperature": 0, "max_tokens": 200},
                )
                said = chat["choices"][0]["message"]["content"]
                if answer not in said:
                    raise DidNotServe(f"{self.peer.name}: {model} answered {said!r} to {self._setup.question!r}")
        except (OSError, ValueError, KeyError) as error:
            raise DidNotServe(f"{self.peer.name} did not answer: {error!r}; {self._last_words()}") from error

    def _answers(self) -> dict[str, str]:
        """By model and adapter, what must be in its answer to the setup's question, where there is one."""
        if not self._setup.question:
            return {}
        adapters = self._setup.adapters
        of_adapter = {adapters.names[0]: adapters.answer} if adapters else {}
        return {self._setup.model: self._setup.answer, **of_adapter}

    def _end(self) -> None:
        self._family.members()
        if self._child is not None:
            self._child.terminate()
        left = self._family.end(STOP_PATIENCE_S)
        if self._child is not None:
            self._child.wait(5)
        self._guard.__exit__(None, None, None)
        if left:
            raise DidNotServe(f"{self.peer.name} left processes that would not end: {left}")

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


def _json(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())


def _cpu_seconds(pid: int) -> float:
    with contextlib.suppress(psutil.Error):
        used = psutil.Process(pid).cpu_times()
        return float(used.user + used.system)
    return 0.0
