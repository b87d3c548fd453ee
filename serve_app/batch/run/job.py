"""What a run of a batch is given, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from serve_app.batch.run.journal import Journal
from serve_app.batch.run.requests import ROUTES

PRIORITY = 10
"""vLLM's, of a batch's requests: a smaller one goes first, and requests without one have 0."""


@dataclass(frozen=True)
class Job:
    """What to work through, and where the answers go."""

    inputs: tuple[Path, ...]
    """`.jsonl` or `.jsonl.gz`, read one after the other."""
    output: Path
    errors: Path
    """Takes what could not be answered, with the reason."""
    priority: int = PRIORITY
    """Given to requests that have none; 0 sends none."""
    models: frozenset[str] | None = None
    """Names that are served; None leaves it to the service to refuse others."""
    routes: tuple[str, ...] = ROUTES
    """What a line's `url` may be."""


@dataclass
class RunSummary:
    """Where a run stands, and in the end what it did."""

    total: int = 0
    """Lines of the input."""
    before: int = 0
    """Answered by earlier runs."""
    before_failed: int = 0
    """Of those, in the error file."""
    succeeded: int = 0
    """Answered by this run."""
    failed: int = 0
    """Written to the error file by this run."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    """Failed lines by kind."""
    open: int = 0
    """Sequences open now."""
    retries: int = 0
    seconds: float = 0.0
    """Wall time so far."""

    @property
    def done(self) -> int:
        """Lines answered, by all runs."""
        return self.before + self.succeeded + self.failed

    @classmethod
    def of(cls, journal: Journal) -> RunSummary:
        """Of a run that begins."""
        return cls(total=journal.total, before=journal.succeeded + journal.failed, before_failed=journal.failed)
