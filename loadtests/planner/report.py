"""The report of a tuning: one HTML file with everything in it, and the main plot as a PNG.

`serve-app report X.tuned.json` writes it anew from what was measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from loadtests.loadgen import traffic
from loadtests.planner.tuning import prove
from loadtests.planner.tuning.oracle import Oracle
from loadtests.planner.tuning.state import State
from loadtests.results import record
from loadtests.results.plots import knee, over_time, style
from loadtests.results.plots.over_time import ObservedRun
from loadtests.results.replicas import ReplicaCounts, startups
from loadtests.results.slo import Slo

TUNED = "tuned"
"""The replay that the verdict is about; the others are there to compare."""
TEMPLATE = Path(__file__).with_name("report.html")
MARKS = {True: ("pass", "passed"), False: ("fail", "failed"), None: ("none", "")}
"""CSS class and word for whether a check passed; None where nothing is asked of it."""


def main(argv: Sequence[str] | None = None) -> int:
    """0 when the report was written."""
    parser = argparse.ArgumentParser(prog="serve-app report", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("state", type=Path, help="X.tuned.json, with its records beside it")
    try:
        written = write(State.read(parser.parse_args(argv).state))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(*written, sep="\n")
    return 0


def write(state: State) -> list[Path]:
    """Write the report on what there is so far beside the state; the files written. Raises OSError, or ValueError for
    records that cannot be read."""
    page, image = state.path.with_suffix(".html"), state.path.with_suffix(".png")
    shape, slo = traffic.parse(state.asked["traffic"]), Slo.parse(state.asked["slo"])
    shown = _replayed(state, shape)
    replays = over_time.replays(shown, shape, slo) if shown else None
    parts = {
        "title": escape(f"{state.asked['model']}: tuned and {'proven' if passed(state) else 'not proven'}"),
        "verdict": _verdict(state),
        "question": _question(state),
        "proof": _proof(state),
        "replays": style.svg(replays) if replays else "<p>Nothing was replayed yet.</p>",
        "excuse": _excuse(state, shown),
        "knees": _knees(state, slo),
        "derived": _derived(state),
        "about": _about(state),
    }
    text = TEMPLATE.read_text()
    for name, value in parts.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    page.write_text(text)
    if replays is None:
        return [page]
    style.png(replays, image)
    return [page, image]


def passed(state: State) -> bool:
    """Whether the tuned configuration was replayed, and no check failed."""
    found = state.replays.get(TUNED)
    return found is not None and all(one["passed"] is not False for one in found["checks"])


def summary(state: State) -> str:
    """The proof, for a terminal."""
    lines = []
    for one in state.replays.values():
        lines.append(f"\n{one['title']}")
        for check in one["checks"]:
            mark = {True: "pass", False: "FAIL", None: "    "}[check["passed"]]
            lines.append(f"  {mark}  {check['name']}: {check['value']} ({check['limit']})")
    lines.append(f"\n{'Proven.' if passed(state) else 'Not proven: see the report.'}")
    return "\n".join(lines)


def _replayed(state: State, shape: traffic.Traffic) -> list[ObservedRun]:
    derived = state.derived
    if derived is None:
        return []
    excused = [(at, at + derived.startup_s) for at in prove.spikes(shape, derived.capacity)]
    return [
        ObservedRun(
            one["title"],
            record.read(state.path.with_name(one["records"])),
            [ReplicaCounts(**sample) for sample in one["samples"]],
            Oracle(one["oracle"]["step_s"], tuple(one["oracle"]["replicas"])).points,
            excused,
        )
        for one in state.replays.values()
    ]


def _verdict(state: State) -> str:
    if TUNED not in state.replays:
        return '<p class="verdict none">Not proven yet: the traffic was not replayed.</p>'
    if passed(state):
        return '<p class="verdict pass">The tuned configuration passed its proof.</p>'
    failed = [one["name"] for one in state.replays[TUNED]["checks"] if one["passed"] is False]
    return f'<p class="verdict fail">The tuned configuration did not pass: {escape("; ".join(failed))}.</p>'


def _question(state: State) -> str:
    asked = state.asked
    rows = {
        "Model": asked["model"],
        "Configuration": asked["config"],
        "Objective (SLO)": asked["slo"],
        "Traffic": asked["traffic"],
        "Requests": f"{asked['scenario']}, {asked['lengths']}",
    }
    return _table([], rows.items())


def _proof(state: State) -> str:
    replays = list(state.replays.values())
    if not replays:
        return ""
    rows = []
    for i, check in enumerate(replays[0]["checks"]):
        cells = [escape(check["name"]), escape(check["limit"])]
        for one in replays:
            css, word = MARKS[one["checks"][i]["passed"]]
            cells.append(f'<span class="{css}">{escape(one["checks"][i]["value"])}</span> <small>{word}</small>')
        rows.append(cells)
    return _table(["", "asked", *(escape(one["title"]) for one in replays)], rows, raw=True)


def _excuse(state: State, shown: Sequence[ObservedRun]) -> str:
    if state.derived is None or not shown:
        return ""
    taken = [
        f"{one.title}: {', '.join(f'{s:.1f}' for s in found)}" for one in shown if (found := startups(one.samples))
    ]
    text = "Seconds that replicas took from order to service during the replays, to half a second. " + "; ".join(taken)
    return f"<p><small>{escape(text)}.</small></p>" if taken else ""


def _knees(state: State, slo: Slo) -> str:
    parts = []
    for name, found in state.knees.items():
        steps = [one for one in state.steps if str(one.replicas_per_gpu or "") == name]
        bound = "" if found.bounded else ", or above: the SLO held at the highest rate tried"
        title = f"{name} replicas on a GPU" if name else "One replica"
        parts.append(
            f"<h3>{title}: {found.rate:.3g} requests/s (95 % interval {found.low:.3g} to {found.high:.3g}{bound})</h3>"
        )
        parts.append(style.svg(knee.shares(steps, found, slo)))
        head = ["offered/s", "answered/s", "open", "TTFT p50", "p95", "p99 ms", "TPOT p50", "p95", "p99 ms"]
        rows = [
            [
                *(f"{value:.3g}" for value in (one.rate, one.achieved_rate, one.concurrency)),
                *(f"{one.ttft_ms[key]:.0f}" for key in ("p50", "p95", "p99")),
                *(f"{one.tpot_ms[key]:.1f}" for key in ("p50", "p95", "p99")),
                f"{one.tokens_per_s:.0f}",
                f"{one.prompt_tokens:.0f} / {one.output_tokens:.0f}",
                f"{one.outcomes['ok']} / {one.outcomes['refused']} / {one.outcomes['failed']}",
                f"{one.late_ms:.0f}",
            ]
            for one in sorted(steps, key=lambda one: one.rate)
        ]
        head += ["tokens/s", "tokens in / out", "ok / refused / failed", "client late p99 ms"]
        parts.append(_table(head, rows))
    parts += [f"<p>{escape(why)}</p>" for why in state.skipped.values()]
    return "\n".join(parts)


def _derived(state: State) -> str:
    derived = state.derived
    if derived is None:
        return "<p>Nothing was derived yet.</p>"
    starts = ", ".join(f"{one:.1f}" for one in state.startup_s) + " s"
    if state.together:
        starts += f"; {state.together['replicas']:g} at once, as the traffic's jumps start them: "
        starts += f"{state.together['startup_s']:.1f} s"
    facts = [
        ("capacity of a replica", f"{derived.capacity:.3g} requests/s", "the knee"),
        ("start-up time", f"{derived.startup_s:.1f} s", f"measured from deployment to readiness: {starts}"),
        ("reaction time", f"{derived.reaction_s:.1f} s", "start-up + up delay + 1 s for reports and a decision"),
        (
            "target utilisation",
            f"{derived.utilisation:.0%}",
            f"share of the knee at which {state.asked['within']:.0%} of requests are within the limits, and at which"
            " the steepest rise within a reaction time still fits",
        ),
        *((one.key, f"{one.value:g}", one.why) for one in derived.numbers),
    ]
    notes = "".join(f"<p>{escape(note)}</p>" for note in derived.notes)
    return _table(["", "value", "from"], facts) + notes


def _about(state: State) -> str:
    about: dict[str, Any] = state.about
    versions = ", ".join(f"{name} {found}" for name, found in about["versions"].items())
    rows = {
        "Date": about["date"],
        "Commit": about["commit"] or "unknown",
        "Machine": f"{about['cores']} cores, GPU: {about['gpu'] or 'none'}",
        "Versions": f"Python {about['python']}, {versions}",
        "Load": "Locust, open loop: Poisson arrivals, sent when due whatever became of those before;"
        " times count from when a request was due",
    }
    return _table([], rows.items())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], raw: bool = False) -> str:
    """`raw` cells are HTML already."""
    top = f"<tr>{''.join(f'<th>{one}</th>' for one in head)}</tr>" if head else ""
    body = "".join(f"<tr>{''.join(f'<td>{one if raw else escape(one)}</td>' for one in row)}</tr>" for row in rows)
    return f"<table>{top}{body}</table>"


if __name__ == "__main__":
    sys.exit(main())
