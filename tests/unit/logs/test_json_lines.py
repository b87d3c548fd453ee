"""A log as JSON: whose lines they are, which request they are about, and how `up` reads them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from serve_app.launching import settings
from serve_app.launching.log import ServiceLog, important, plain
from serve_app.logs.json_lines import VLLM_CONFIG, WHO, unfolded

WRITER = """
import asyncio, logging, logging.handlers, sys

from serve_app.logs import start
from serve_app.logs.context import trace_id
from serve_app.logs.names import ProcessName
from serve_app.config.telemetry import LogConfig

logger = logging.getLogger("ray.serve")
logger.propagate = False
logger.setLevel("INFO")
logger.addHandler(logging.StreamHandler())
kept = logging.handlers.MemoryHandler(100, target=logging.FileHandler(sys.argv[1]))
logger.addHandler(kept)
config = LogConfig(format=sys.argv[2])
start.start(config, ProcessName("ingress", "app", "abc"))


async def application(scope, receive, send):
    trace_id.set("0af7" * 8 if scope["path"] == "/traced" else "")
    logger.warning("at %s", scope["path"])
    if scope["path"] == "/wrong":
        try:
            raise ValueError("of a\\nkind")
        except ValueError:
            logger.exception("it went wrong: %s", "ä\\nb")


async def main():
    app = start.of_requests(config, application)
    for path, *headers in (
        ("/traced", (b"x-request-id", b"one")),
        ("/wrong", (b"x-request-id", b"body's"), (b"x-answer-id", b"two")),
        ("/plain",),
    ):
        scope = {"type": "http", "path": path, "headers": headers}
        await asyncio.create_task(app(scope, None, None))


asyncio.run(main())
logging.getLogger("some_dependency.engine").warning("from elsewhere")
kept.flush()
"""


def written(folder: Path, format: str) -> tuple[list[str], list[str]]:
    """What a process writes on its standard error, and to a file by way of a buffer."""
    file = folder / "log"
    done = subprocess.run([sys.executable, "-c", WRITER, str(file), format], capture_output=True, text=True, check=True)
    return done.stderr.splitlines(), file.read_text().splitlines()


def test_each_line_is_an_object_that_says_which_request_it_is_about(tmp_path: Path) -> None:
    lines, kept = written(tmp_path, "json")
    told = [json.loads(line) for line in lines]
    *ours, other = told
    assert [json.loads(line) for line in kept] == ours, "in a buffer too, which is written when others have their turn"
    assert all(line["part"] == "ingress" and line["replica"] == "abc" and line["time"].endswith("Z") for line in told)
    assert [(one["level"], one["message"], one.get("request_id"), one.get("trace_id")) for one in ours] == [
        ("WARNING", "at /traced", "one", "0af7" * 8),
        ("WARNING", "at /wrong", "two", None),
        ("ERROR", "it went wrong: ä\nb", "two", None),
        ("WARNING", "at /plain", None, None),
    ]
    assert ours[2]["exception"].endswith("ValueError: of a\nkind")
    assert (other["logger"], other["message"]) == ("some_dependency.engine", "from elsewhere")


def test_vllm_writes_the_same_in_whatever_process() -> None:
    """As it reads the file that VLLM_LOGGING_CONFIG_PATH names."""
    check = "import json, logging.config, sys; logging.config.dictConfig(json.load(open(sys.argv[1])))"
    write = "logging.getLogger('vllm.engine').info('ready'); logging.getLogger('vllm.engine').debug('no')"
    done = subprocess.run(
        [sys.executable, "-c", f"{check}; {write}", str(VLLM_CONFIG)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {WHO: '{"part": "engine"}'},
    )
    (line,) = map(json.loads, done.stderr.splitlines())
    assert (line["logger"], line["message"], line["part"]) == ("vllm.engine", "ready", "engine")


def test_text_stays_text(tmp_path: Path) -> None:
    lines, kept = written(tmp_path, "text")
    assert lines[0] == kept[0] == "at /traced"


def test_up_reads_them_as_it_reads_text(tmp_path: Path) -> None:
    path = tmp_path / "service.log"
    path.write_text("".join(f"(ServeReplica:a:b pid=1) {line}\n" for line in written(tmp_path, "json")[0]))
    lines = ServiceLog(path).news()
    shown = [text for text in map(important, lines) if text]
    assert shown == ["it went wrong: ä", "ValueError: of a"]
    assert unfolded(plain('{"time": "is no line of ours"}')) == ['{"time": "is no line of ours"}']


def test_ray_serves_own_processes_write_json_too(tmp_path: Path) -> None:
    def prepared(**args: Any) -> dict[str, Any]:
        config = tmp_path / "service.yaml"
        data = {"applications": [{"name": "a", "import_path": "serve_app.app:build", "args": {"models": [], **args}}]}
        config.write_text(yaml.safe_dump(data))
        folder = tmp_path / "folder"
        folder.mkdir(exist_ok=True)
        return dict(yaml.safe_load(settings.prepare(config, 8123, folder).config.read_text()))

    assert "logging_config" not in prepared()
    assert prepared(logging={"format": "json"})["logging_config"] == {"encoding": "JSON"}
