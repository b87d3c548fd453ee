"""A batch's last steps, as changes of its object."""

from __future__ import annotations

import time
from collections.abc import Sequence

from msgspec.structs import replace

from serve_app.batch.api.objects import Batch, Counts, File, Problem, Problems, Usage


def failing(batch: Batch, problem: Problem) -> Batch:
    """`finalizing`, to be `failed` then."""
    return replace(finalizing(batch), in_progress_at=batch.in_progress_at, errors=Problems((problem,)))


def finalizing(batch: Batch) -> Batch:
    """Nothing more is sent from here on; says also why, for whoever must go on after a crash."""
    if batch.status == "finalizing":
        return batch
    now = int(time.time())
    expired = now if now >= batch.expires_at and batch.status != "cancelling" else None
    begun = batch.in_progress_at or (None if expired or batch.status == "cancelling" else now)
    return replace(
        batch, status="finalizing", in_progress_at=begun, finalizing_at=now, expired_at=expired, waiting=None
    )


def ended(batch: Batch, counts: Counts, usage: Usage, files: Sequence[File], ids: tuple[str, str]) -> Batch:
    """The batch with those of its outputs that were written; `ids` are what output and error file would have."""
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


def failed(batch: Batch, problem: Problem) -> Batch:
    """`failed` at once, for a batch that cannot even be finalized."""
    return replace(batch, status="failed", failed_at=int(time.time()), errors=Problems((problem,)), waiting=None)
