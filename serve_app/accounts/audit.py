"""A JSON line for each request to a model, where that is asked for: who, when, what came of it; nothing of its content.

Who answered a request writes its line: a replica, which knows its tokens, or the ingress, where no replica did.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serve_app.replica.ledger import Account

FOLDER = "audit"
WRITE_S = 0.5
COMPLAIN_S = 60.0
KEPT = 100_000
"""Lines that wait to be written, where the disk takes none; the oldest are given up."""

logger = logging.getLogger("ray.serve")


class AuditLog:
    """One process's lines, in a file a day, of UTC."""

    def __init__(self, directory: Path, writer: str) -> None:
        """`writer` is this process's name in those of the files."""
        self._folder = directory / FOLDER
        self._writer = writer
        self._lines: list[Mapping[str, Any]] = []

    def answered(self, account: Account, model: str) -> None:
        """By this replica."""
        ended = time.perf_counter()
        used = account.counted
        self._add(
            account.arrived,
            request_id=account.id or None,
            key=account.key or None,
            model=model,
            route=account.route,
            status=account.status or 499,
            prompt_tokens=used.prompt,
            cached_tokens=used.cached,
            output_tokens=used.output,
            waited_s=account.waited_s,
            first_byte_s=round(account.first_byte_at - account.began, 4) if account.first_byte_at else None,
            duration_s=round(ended - account.began, 4),
        )

    def refused(self, arrived: float, *, request_id: str, key: str, route: str, status: int) -> None:
        """By the ingress, at `arrived` seconds since the epoch; which model it was for need not be known."""
        self._add(
            arrived,
            request_id=request_id or None,
            key=key or None,
            model=None,
            route=route,
            status=status,
            prompt_tokens=0,
            cached_tokens=0,
            output_tokens=0,
            waited_s=round(time.time() - arrived, 4),
            first_byte_s=None,
            duration_s=0.0,
        )

    async def follow(self) -> None:
        """Write what there is, again and again. Never returns."""
        complained_at = -COMPLAIN_S
        while True:
            await asyncio.sleep(WRITE_S)
            lines, self._lines = self._lines, []
            try:
                await asyncio.to_thread(self._write, lines)
            except OSError as error:
                self._lines = (lines + self._lines)[-KEPT:]
                if time.monotonic() - complained_at > COMPLAIN_S:
                    complained_at = time.monotonic()
                    logger.warning("requests are not written to %s at present: %s", self._folder, error)

    def close(self) -> None:
        """Write what is left. Blocks; raises OSError."""
        lines, self._lines = self._lines, []
        self._write(lines)

    def _add(self, arrived: float, **fields: Any) -> None:
        at = datetime.fromtimestamp(arrived, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._lines.append({"time": at, **fields})

    def _write(self, lines: list[Mapping[str, Any]]) -> None:
        texts: dict[str, list[str]] = {}
        for line in lines:
            texts.setdefault(line["time"][:10], []).append(json.dumps(line, separators=(",", ":")) + "\n")
        for day, of_day in texts.items():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._folder / f"{day}-{self._writer}.jsonl"
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a") as file:
                file.write("".join(of_day))
