"""Service level objectives: what counts as good service of a request, and of all requests."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from loadtests.arguments import BadSpec, instead, number
from loadtests.results.percentiles import percentile
from loadtests.results.record import Record

FIGURES: dict[str, Callable[[Record], float | None]] = {
    "ttft": lambda record: record.scheduled_ttft_s,
    "tpot": lambda record: record.tpot_s,
    "e2e": lambda record: record.scheduled_latency_s,
}
"""What an objective can be about, by the name it has there, s; None where a request has no such figure."""


@dataclass(frozen=True)
class Term:
    """One percentile of one figure stays below a limit."""

    figure: str
    """A key of FIGURES."""
    limit_s: float
    percentile: float
    """0 to 100; 100 is every request."""

    def __str__(self) -> str:
        part = "" if self.percentile == 100 else f"_p{self.percentile:g}"
        limit = f"{self.limit_s:g}s" if self.limit_s >= 1 else f"{self.limit_s * 1000:g}ms"
        return f"{self.figure}{part}={limit}"


@dataclass(frozen=True)
class Slo:
    """Terms that all have to hold."""

    terms: tuple[Term, ...]

    @classmethod
    def parse(cls, text: str) -> Slo:
        """`ttft_p95=500ms,tpot_p95=40ms`; without a percentile, of every request. Raises BadSpec."""
        terms: list[Term] = []
        for word in filter(None, (word.strip() for word in text.split(","))):
            key, equals, value = (part.strip() for part in word.partition("="))
            named = re.fullmatch(r"(.*?)(?:_p(\d+(?:\.\d+)?))?", key)
            assert named is not None
            figure, percent = named[1], float(named[2] or 100)
            if figure not in FIGURES:
                near = instead(figure, FIGURES)
                known = ", ".join(FIGURES)
                raise BadSpec(
                    f"SLO {text!r}: unknown figure {key!r}{near}; there are {known}, each with _p95 or another"
                )
            if not 0 < percent <= 100:
                raise BadSpec(f"SLO {text!r}: unknown figure {key!r}: a percentile is above 0 and at most 100")
            if not equals or not re.search(r"[a-z]$", value):
                raise BadSpec(f"SLO {text!r}: {key} needs a time with its unit, as in {key}=500ms")
            if (limit_s := number(value, f"SLO {text!r}: {key}")) <= 0:
                raise BadSpec(f"SLO {text!r}: the limit of {key} must be above 0")
            if any((one.figure, one.percentile) == (figure, percent) for one in terms):
                raise BadSpec(f"SLO {text!r}: {key} is given twice")
            terms.append(Term(figure, limit_s, percent))
        if not terms:
            raise BadSpec("the SLO is empty: give it terms as in ttft_p95=500ms,tpot_p95=40ms")
        return cls(tuple(terms))

    def limit_s(self, figure: str) -> float:
        """Of one request, s; the loosest where several percentiles have one, infinite where none has."""
        return max((term.limit_s for term in self.terms if term.figure == figure), default=math.inf)

    def within(self, record: Record) -> bool:
        """Whether a request was answered, and each of its own figures is within its limit.

        Times count from when the request was due, not from when the client got to send it. A figure that a request does
        not have (TTFT without streaming, TPOT of a single token) does not count against it.
        """
        if record.outcome != "ok":
            return False
        found = ((FIGURES[figure](record), self.limit_s(figure)) for figure in {term.figure for term in self.terms})
        return all(value is None or value <= limit for value, limit in found)

    def holds(self, records: Iterable[Record]) -> bool:
        """Whether every term's percentile is within its limit; of no requests, none is.

        A request without an answer took for ever.
        """
        records = list(records)
        return bool(records) and all(self.reached_s(term, records) <= term.limit_s for term in self.terms)

    def reached_s(self, term: Term, records: Iterable[Record]) -> float:
        """The percentile that a term is about, s; infinite where so many were not answered, 0 of none."""
        figure = FIGURES[term.figure]
        found = (figure(record) if record.outcome == "ok" else math.inf for record in records)
        return percentile([value for value in found if value is not None], term.percentile)

    def __str__(self) -> str:
        return ",".join(map(str, self.terms))
