"""Where engine processes come from: a process that imports vLLM while its replica does, and is forked then.

vLLM starts its engine as a new interpreter from within a Ray actor, and that imports for as long as the replica has
imported already, one after the other. Here Python's `forkserver` does so beside the replica: it is a new process
without Ray's threads and connections, and its imports leave CUDA alone, so that a fork of it is as good as new.

Two things that a new interpreter has by itself are given to the fork: the replica's environment as it is by then, and
an end with its replica.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing import connection, context, forkserver
from typing import Any, ClassVar

PRELOADED = (
    "ray",
    "vllm.engine.arg_utils",
    "vllm.v1.engine.core",
    "vllm.v1.executor.uniproc_executor",
    "vllm.v1.worker.gpu_worker",
    "vllm.model_executor.models.lfm2",
    "serve_app.engine.prefork",
    "serve_app.engine.scheduler",
)
"""What an engine process imports; what cannot be imported is left out."""


class EngineProcess(context.ForkServerProcess):
    """A forked engine process."""

    def start(self) -> None:
        self._environment = dict(os.environ)
        super().start()

    def run(self) -> None:
        # Changes alone: setproctitle finds its room by the environment's place in memory.
        for name in os.environ.keys() - self._environment.keys():
            del os.environ[name]
        for name, value in self._environment.items():
            if os.environ.get(name) != value:
                os.environ[name] = value
        threading.Thread(target=_end_with_parent, name="ends-with-its-replica", daemon=True).start()
        super().run()


class EngineContext(context.ForkServerContext):
    """A multiprocessing context whose processes are EngineProcess."""

    Process: ClassVar[Any] = EngineProcess


def begin() -> None:
    """Start the imports, in a process of their own; returns at once. The environment must be as vLLM is to see it."""
    forkserver.set_forkserver_preload(list(PRELOADED))
    forkserver.ensure_running()


def install() -> None:
    """Have vLLM fork its engine from there.

    `CoreEngineProcManager` takes the context for its processes from `get_mp_context`, which allows nothing but a new
    interpreter within a Ray actor. What an engine starts itself, as tensor parallel does, is as before.
    """
    from vllm.v1.engine import utils

    utils.get_mp_context = EngineContext


def _end_with_parent() -> None:
    """A replica that is killed cannot end its engine, which would keep the GPU."""
    replica = multiprocessing.parent_process()
    if replica is not None:
        connection.wait([replica.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)
