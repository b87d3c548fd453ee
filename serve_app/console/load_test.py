"""/console/api/load: one load test at a time on this very service, by Locust in a process of its own.

Locust and the load tests are installed with the extra `load`; without them the page says so. The process gets
the service's own address, which nobody else names, and the key of who starts it in its environment.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections import deque
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from serve_app.compat import serve_status
from serve_app.http.errors import ApiError

LINES = 60
"""Of what Locust said last."""
ENDING_S = 10.0
"""For Locust to end and print its report, before it is killed."""
MOST_S = 3600.0
Shape = Annotated[str, Field(max_length=200, pattern=r"^(steady|steps|ramp|spike|day|bursts):[\w=.,]+$")]


class LoadTestRequest(BaseModel):
    """What a person asks for, in the words of `loadtests/locustfile.py`'s options."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(min_length=1, max_length=200)]
    traffic: Shape
    scenario: Literal["chat", "conversation", "shared-prefix", "vision"] = "chat"
    prompt: Annotated[int, Field(ge=1, le=100_000)] = 64
    """Tokens of a prompt."""
    output: Annotated[int, Field(ge=1, le=100_000)] = 32
    """Tokens of an answer."""
    slo: Annotated[str, Field(max_length=200, pattern=r"^[\w=.,]+$")] = "ttft_p95=1s,tpot_p95=100ms"
    api_key: Annotated[str, Field(max_length=500)] = ""


def locustfile() -> Path | None:
    """Of the load tests; None where they or Locust are not installed."""
    found = find_spec("loadtests")
    if found is None or found.origin is None or find_spec("locust") is None:
        return None
    return Path(found.origin).with_name("locustfile.py")


class LoadTestPage:
    """Starts one, tells of it, and ends it."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._said: deque[str] = deque(maxlen=LINES)
        self._asked: dict[str, Any] | None = None
        self._began = 0.0
        self._ended: float | None = None

    def routes(self) -> list[Route]:
        return [
            Route("/console/api/load", self._show, methods=["GET"]),
            Route("/console/api/load", self._start, methods=["POST"]),
            Route("/console/api/load", self._stop, methods=["DELETE"]),
        ]

    @property
    def running(self) -> bool:
        """Whether Locust is."""
        return self._process is not None and self._process.returncode is None

    async def _show(self, request: Request) -> JSONResponse:
        return JSONResponse(
            {
                "installed": locustfile() is not None,
                "running": self.running,
                "asked": self._asked,
                "began": self._began or None,
                "ended": self._ended,
                "status": self._process.returncode if self._process else None,
                "said": list(self._said),
            }
        )

    async def _start(self, request: Request) -> JSONResponse:
        # A form of another site's page can send no JSON without this service's leave.
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            raise ApiError(415, "send application/json")
        try:
            asked = LoadTestRequest.model_validate_json(await request.body())
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"])) or None
            raise ApiError(400, f"{name or 'the body'}: {first['msg']}", name, "invalid_value") from None
        if (file := locustfile()) is None:
            message = "Locust is not installed here: install the extra `load`, as in `pip install 'serve-app[load]'`"
            raise ApiError(501, message, code="not_installed")
        if self.running:
            raise ApiError(409, "a load test runs already: stop it first", code="already_running")
        await self._run(asked, file)
        return await self._show(request)

    async def _run(self, asked: LoadTestRequest, file: Path) -> None:
        url = await asyncio.to_thread(serve_status.address)
        words = ["--headless", "--host", url, "--model", asked.model, "--traffic", asked.traffic]
        words += ["--scenario", asked.scenario, "--lengths", f"fixed:prompt={asked.prompt},output={asked.output}"]
        words += ["--slo", asked.slo, "--run-time", f"{MOST_S:.0f}s", "--only-summary"]
        self._said.clear()
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "locust", "-f", str(file), *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=os.environ | {"LOCUST_API_KEY": asked.api_key},
            cwd=tempfile.gettempdir(),
            start_new_session=True,
        )
        self._asked = asked.model_dump(exclude={"api_key"})
        self._began, self._ended = time.time(), None
        self._reading = asyncio.create_task(self._read(self._process))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self._said.append(line.decode(errors="replace").rstrip())
        await process.wait()
        self._ended = time.time()

    async def _stop(self, request: Request) -> JSONResponse:
        await self.end()
        return await self._show(request)

    async def end(self) -> None:
        """The test that runs, if one does; it still says what came of it."""
        if self._process is None or self._reading is None or not self.running:
            return
        self._process.send_signal(signal.SIGINT)
        done, _ = await asyncio.wait((self._reading,), timeout=ENDING_S)
        if not done:
            self._process.kill()
            await self._reading
