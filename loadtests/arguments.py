"""Types of command-line arguments that are numbers within bounds."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable


def whole(least: int = 1) -> Callable[[str], int]:
    """A whole number that is not below `least`."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a whole number; got {text!r}") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}; got {value}")
        return value

    return read


def above_zero(most: float = math.inf, endless: bool = False) -> Callable[[str], float]:
    """A number above 0 and not above `most`; infinite where that is `endless` on purpose."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a number; got {text!r}") from None
        if not value > 0 or value > most or (math.isinf(value) and not endless):
            bound = "" if math.isinf(most) else f" and at most {most:g}"
            raise argparse.ArgumentTypeError(f"must be above 0{bound}; got {text}")
        return value

    return read
