"""OpenAI's File and Batch objects, as they are stored and as clients see them.

https://platform.openai.com/docs/api-reference/files/object
https://platform.openai.com/docs/api-reference/batch/object
"""

from __future__ import annotations

from typing import Literal

import msgspec

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
    object: Literal["file"] = "file"
    status: Literal["processed"] = "processed"


class Counts(msgspec.Struct, frozen=True):
    """Lines of a batch."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why a batch failed, or does not go on at the moment."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Problems(msgspec.Struct, frozen=True):
    """OpenAI's list of them."""

    data: tuple[Problem, ...]
    object: Literal["list"] = "list"


class Usage(msgspec.Struct, frozen=True, kw_only=True):
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
    errors: Problems | None = None
    waiting: Problem | None = None
    """Why nothing of it is answered at the moment; it goes on by itself. Not OpenAI's."""
    request_counts: Counts = Counts()
    usage: Usage | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    object: Literal["batch"] = "batch"
