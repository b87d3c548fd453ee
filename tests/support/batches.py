"""Batches through the official client."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

import openai
from openai.types import Batch

ENDED = ("completed", "failed", "cancelled", "expired")


def lines(bodies: Iterable[dict[str, Any]], url: str) -> bytes:
    """A batch's input; the custom_ids are 0, 1, ..."""
    requests = ({"custom_id": str(id), "method": "POST", "url": url, "body": body} for id, body in enumerate(bodies))
    return b"".join(json.dumps(request).encode() + b"\n" for request in requests)


def create(client: openai.OpenAI, input: bytes, url: str) -> Batch:
    """Upload and begin."""
    file = client.files.create(file=("input.jsonl", input), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=url, completion_window="24h")


def end(client: openai.OpenAI, batch: Batch, timeout_s: float = 60) -> Batch:
    """The batch once nothing happens to it any more."""
    deadline = time.monotonic() + timeout_s
    while batch.status not in ENDED:
        assert time.monotonic() < deadline, batch
        time.sleep(0.3)
        batch = client.batches.retrieve(batch.id)
    return batch


def contents(client: openai.OpenAI, file_id: str | None) -> dict[str | None, dict[str, Any]]:
    """The lines of an output by custom_id, each of which must be there once; none where there is no file."""
    text = client.files.content(file_id).text if file_id else ""
    records = [json.loads(line) for line in text.splitlines()]
    by_id = {record["custom_id"]: record for record in records}
    assert len(by_id) == len(records)
    return by_id
