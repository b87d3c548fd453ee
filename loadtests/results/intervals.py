"""How sure a measured share is."""

from __future__ import annotations


def wilson(hits: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of the share `hits / total`, at a confidence level of 0 to 1; (0, 1) of no requests."""
    from scipy.stats import binomtest  # half a second that a command's --help can do without

    if not total:
        return 0.0, 1.0
    interval = binomtest(hits, total).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)
