"""What the person at the terminal, or the program behind it, is told of a batch."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from serve_app.batch.run.runner import Summary

BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} lines [{elapsed}<{remaining}{postfix}]"


class Progress:
    """A bar on stderr while it runs; in the end a summary on stdout, or with `as_json` one JSON object."""

    def __init__(self, output: Path, errors: Path, *, quiet: bool = False, as_json: bool = False) -> None:
        """`quiet` leaves out the bar, and the summary unless it is JSON."""
        self._output = output
        self._errors = errors
        self._quiet = quiet
        self._json = as_json
        self._bar: tqdm[NoReturn] | None = None
        self._last = Summary()
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """A step on the way."""
        if not self._quiet:
            tqdm.write(text, file=sys.stderr)

    def update(self, summary: Summary) -> None:
        """After each line."""
        self._last = summary
        if self._quiet:
            return
        if self._bar is None:
            # Where nobody watches, a line every half minute says enough.
            pause_s = 0.1 if sys.stderr.isatty() else 30.0
            self._bar = tqdm(
                total=summary.total, initial=summary.before, bar_format=BAR, mininterval=pause_s, dynamic_ncols=True
            )
        tokens_per_s = summary.output_tokens / max(summary.seconds, 1e-9)
        self._bar.set_postfix_str(
            f"{tokens_per_s:,.0f} tokens/s, {summary.open} open, {summary.failed} failed", refresh=False
        )
        self._bar.update(summary.done - self._bar.n)
        if summary.done == summary.total:
            self._close()

    def finished(self, summary: Summary) -> None:
        """The run is complete."""
        self._close()
        if self._json:
            print(json.dumps(asdict(summary) | {"output": str(self._output), "errors_file": str(self._errors)}))
        elif not self._quiet:
            print("\n".join(self._told(summary)))

    def stopped(self, reason: str) -> None:
        """The run ended before its time."""
        self._close()
        print(reason, file=sys.stderr)
        if self._json:
            print(json.dumps(asdict(self._last) | {"stopped": reason}))
        elif self._last.total and not self._quiet:
            print("\n".join(self._told(self._last)), file=sys.stderr)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _told(self, summary: Summary) -> list[str]:
        seconds = max(summary.seconds, 1e-9)
        failed = summary.failed + summary.before_failed
        lines = [f"{summary.done - failed:,} of {summary.total:,} lines answered, {failed:,} failed"]
        if left := summary.total - summary.done:
            lines[0] += f", {left:,} left"
        if summary.before:
            lines[0] += f"; {summary.before:,} of them by earlier runs"
        lines.append(
            f"{summary.prompt_tokens:,} tokens in, {summary.output_tokens:,} out in {seconds:,.1f} s: "
            f"{summary.output_tokens / seconds:,.0f} tokens/s, {summary.succeeded / seconds:,.1f} lines/s"
        )
        lines.append(f"answers: {self._output}")
        if failed:
            kinds = [f"{count:,} {kind}" for kind, count in sorted(summary.errors.items())]
            if summary.before_failed:
                kinds.append(f"{summary.before_failed:,} by earlier runs")
            lines.append(
                f"errors:  {self._errors} ({', '.join(kinds)}); remove it and run again to try those lines again"
            )
        return lines
