"""Progress of a tuning on the terminal: a bar with the time left for what takes long, a line for what is done."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

from tqdm import tqdm

PERIOD_S = 0.5


class TerminalProgress:
    """Of a run whose parts are known beforehand, roughly, in seconds."""

    def __init__(self, expected_s: float) -> None:
        self._expected_s = expected_s
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """A line that stays."""
        tqdm.write(f"[{time.monotonic() - self._began:5.0f} s] {text}", file=sys.stderr)

    @property
    def left_s(self) -> float:
        """Of the whole run, roughly."""
        return max(0.0, self._expected_s - (time.monotonic() - self._began))

    @contextlib.contextmanager
    def during(self, what: str, seconds: float) -> Iterator[None]:
        """A bar for something that takes about so long; on a terminal only."""
        total = max(1, round(seconds))
        with tqdm(
            total=total,
            desc=what,
            unit="s",
            leave=False,
            disable=None,
            bar_format="{desc} {bar} {n_fmt}/{total_fmt} s, {remaining} left{postfix}",
        ) as bar:
            stop = threading.Event()
            ticker = threading.Thread(target=self._tick, args=(bar, total, stop), daemon=True)
            ticker.start()
            try:
                yield
            finally:
                stop.set()
                ticker.join()

    def _tick(self, bar: tqdm[None], total: int, stop: threading.Event) -> None:
        began = time.monotonic()
        while not stop.wait(PERIOD_S):
            bar.set_postfix_str(f"all of it: about {self.left_s / 60:.0f} min left", refresh=False)
            bar.n = min(total, round(time.monotonic() - began))
            bar.refresh()
