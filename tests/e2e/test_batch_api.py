"""The Batch API over real vLLM: text and images, across a restart of the whole service."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import yaml

from tests.e2e.conftest import VISION, data_url
from tests.support.batches import contents, create, end, lines
from tests.support.service import Service, running_service

URL = "/v1/chat/completions"
COUNT = 120


def test_a_batch_goes_on_after_a_restart(tmp_path: Path, picture: Callable[..., bytes]) -> None:
    """One service has no time to finish; the next one, with the same directory, does."""
    config = tmp_path / "service.yaml"
    args = {
        "models": [{"id": VISION, "cpus": 0.3, "max_running": 8}],
        "ingress": {"cpus": 0.1},
        "batch": {"directory": str(tmp_path / "batch"), "cpus": 0.1},
    }
    application = {"name": "lfm2", "route_prefix": "/", "import_path": "serve_app.app:build", "args": args}
    config.write_text(yaml.safe_dump({"applications": [application]}))
    picture_line = body([text("What color is this image?"), image(picture("red"))], 8)
    long = body([text("Tell me everything about this service.")], 48, ignore_eos=True)
    with running_service(config, start_timeout_s=120) as service:
        batch = create(api(service), lines([picture_line, *[long] * (COUNT - 1)], URL), URL)
        begun = time.monotonic()
        while not (batch := api(service).batches.retrieve(batch.id)).request_counts.completed:
            assert time.monotonic() < begun + 60
            time.sleep(0.1)
        assert batch.request_counts.completed < COUNT
    with running_service(config, start_timeout_s=120) as service:
        batch = end(api(service), batch, 90)
        assert batch.status == "completed" and batch.request_counts.completed == COUNT
        answers = contents(api(service), batch.output_file_id)
    assert answers.keys() == {str(number) for number in range(COUNT)}
    assert "red" in answers["0"]["response"]["body"]["choices"][0]["message"]["content"].lower()
    assert batch.usage.output_tokens >= 48 * (COUNT - 1)


def api(service: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=5, timeout=30)


def body(content: list[dict[str, Any]], tokens: int, **more: object) -> dict[str, Any]:
    message = {"role": "user", "content": content}
    return {"model": VISION, "messages": [message], "max_tokens": tokens, "temperature": 0, **more}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def image(encoded: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(encoded)}}
