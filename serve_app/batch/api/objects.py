"""OpenAI's File and Batch objects, as they are stored and as clients see them, and the last steps of a batch.

https://platform.openai.com/docs/api-reference/files/object
https://platform.openai.com/docs/api-reference/batch/object
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec.structs import replace

Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
STATUSES: tuple[Status, ...] = Status.__args__  # type: ignore[attr-defined]
FINAL: frozenset[Status] = frozenset({"failed", "completed", "expired", "cancelled"})
"""Nothing happens to such a batch any more."""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A stored file; times are seconds since the epoch."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    expires_at: int | None = None
    key: str | None = None
    """The name of the key that made it, for those who may see others' too. Not OpenAI's."""
    object: Literal["file"] = "file"
    status: Literal["processed"] = "processed"


class RequestCounts(msgspec.Struct, frozen=True):
    """Lines of a batch by outcome."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class BatchError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a batch failed, or does not go on at the moment."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class BatchErrors(msgspec.Struct, frozen=True):
    """The `errors` of a batch, as OpenAI lists them."""

    data: tuple[BatchError, ...]
    object: Literal["list"] = "list"


class BatchUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of a batch's answers."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0


class ExpiresAfter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a file is kept."""

    anchor: Literal["created_at"]
    seconds: int


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch; times are seconds since the epoch."""

    id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    status: Status
    created_at: int
    expires_at: int
    metadata: dict[str, str] | None = None
    output_expires_after: ExpiresAfter | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: BatchErrors | None = None
    waiting: BatchError | None = None
    """Why nothing of it is answered at the moment; it goes on by itself. Not OpenAI's."""
    key: str | None = None
    """The name of the key that made it, for those who may see others' too. Not OpenAI's."""
    request_counts: RequestCounts = RequestCounts()
    usage: BatchUsage | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    object: Literal["batch"] = "batch"


def failing(batch: Batch, error: BatchError) -> Batch:
    """A batch whose input cannot be used: its status is `finalizing` now, and `failed` when it has ended."""
    return replace(finalizing(batch), in_progress_at=batch.in_progress_at, errors=BatchErrors((error,)))


def finalizing(batch: Batch) -> Batch:
    """A batch of which nothing more is sent: its status is `finalizing`.

    Its other fields say why, for a worker that goes on after a crash: `cancelling_at`, `expired_at`, `errors`.
    """
    if batch.status == "finalizing":
        return batch
    now = int(time.time())
    expired = now if now >= batch.expires_at and batch.status != "cancelling" else None
    begun = batch.in_progress_at or (None if expired or batch.status == "cancelling" else now)
    return replace(
        batch, status="finalizing", in_progress_at=begun, finalizing_at=now, expired_at=expired, waiting=None
    )


def ended(batch: Batch, counts: RequestCounts, usage: BatchUsage, files: Sequence[File], ids: tuple[str, str]) -> Batch:
    """A batch with its final status, its counts, and those of its outputs that were written.

    `files` are the outputs that were written; `ids` are those that the output and the error file have if they are.
    """
    now = int(time.time())
    written = {file.id for file in files}
    output, error = (id if id in written else None for id in ids)
    batch = replace(
        batch,
        request_counts=replace(counts, total=max(batch.request_counts.total, counts.completed + counts.failed)),
        usage=usage,
        output_file_id=output,
        error_file_id=error,
    )
    if batch.errors is not None:
        return replace(batch, status="failed", failed_at=now)
    if batch.cancelling_at is not None:
        return replace(batch, status="cancelled", cancelled_at=now)
    if batch.expired_at is not None:
        return replace(batch, status="expired")
    return replace(batch, status="completed", completed_at=now)


def failed(batch: Batch, error: BatchError) -> Batch:
    """A batch that cannot even be finalized: its status is `failed` at once."""
    return replace(batch, status="failed", failed_at=int(time.time()), errors=BatchErrors((error,)), waiting=None)
