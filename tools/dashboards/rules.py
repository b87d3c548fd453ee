"""Prometheus' rules: percentiles kept as series of their own, and what somebody should be told of.

The objectives are below. Who has others changes them here and writes the rules anew, or edits `dashboards/rules.yaml`.
"""

from __future__ import annotations

from typing import Any

from tools.dashboards import names as m

Rule = dict[str, Any]

ANSWERED = 0.999
"""Of all requests, those that neither fail nor are refused for want of a replica."""
PROMPT, PROMPT_S = 0.99, "1.0"
"""Of all requests, those whose first token comes within so many seconds: a bucket's end, as it is written."""
BURNS = (("critical", 14.4, "1h", "5m"), ("warning", 6.0, "6h", "30m"))
"""How many times faster than the objective allows: over the long window, and still over the short one. The first uses
up the budget of 30 days in 2, the second in 5."""
WINDOWS = sorted({window for *_, long, short in BURNS for window in (long, short)})


def groups() -> list[dict[str, Any]]:
    """As `rule_files` have them."""
    return [
        {"name": "lfm2-percentiles", "rules": _percentiles()},
        # The rules of a group are evaluated one after the other, those of several at the same time.
        {"name": "lfm2-objectives", "rules": [*_ratios(), *_burning()]},
        {"name": "lfm2-alerts", "rules": [*_load(), *_replicas()]},
    ]


def series(metric: str, operation: str) -> str:
    """The name of a recorded series, as Prometheus' conventions have it; vLLM's colon would be taken for theirs."""
    return f"model:{metric.removesuffix('_total').replace(':', '_')}:{operation}"


def _percentiles() -> list[Rule]:
    told = [(metric, "model") for metric in (m.FIRST_BYTE, m.DURATION)]
    told += [(m.TTFT, m.GEN_AI_MODEL), (m.TPOT, m.GEN_AI_MODEL), (m.QUEUE_TIME, "model_name")]
    return [
        {
            "record": series(metric, f"{name}_5m"),
            "expr": f"histogram_quantile({q}, sum by ({label}, le) (rate({metric}_bucket[5m])))",
        }
        for metric, label in told
        for name, q in m.QUANTILES.items()
    ]


def _ratios() -> list[Rule]:
    rules: list[Rule] = []
    for window in WINDOWS:
        asked = f'sum by (model) (rate({m.REQUESTS}{{model!=""}}[{window}]))'
        failed = f"(sum by (model) (rate({m.REQUESTS}{{{m.ERRORS}}}[{window}])) or 0 * {asked})"
        broken = f"sum by (model) (rate({m.BROKEN}[{window}]))"
        rules.append({"record": _failed(window), "expr": f"({failed} + {broken}) / {asked}"})
        begun = f'sum by ({m.GEN_AI_MODEL}) (rate({m.TTFT}_bucket{{le="{PROMPT_S}"}}[{window}]))'
        of = f"sum by ({m.GEN_AI_MODEL}) (rate({m.TTFT}_count[{window}]))"
        rules.append({"record": _late(window), "expr": f"1 - {begun} / {of}"})
    return rules


def _failed(window: str) -> str:
    return series(m.REQUESTS, f"failed_ratio_{window}")


def _late(window: str) -> str:
    return series(m.TTFT, f"late_ratio_{window}")


def _alert(name: str, expr: str, for_: str, summary: str, description: str, severity: str = "warning") -> Rule:
    return {
        "alert": name,
        "expr": expr,
        "for": for_,
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": description},
    }


def _burning() -> list[Rule]:
    rules = []
    for severity, times, long, short in BURNS:
        speed = "Fast" if severity == "critical" else "Slow"
        for what, ratio, budget, label in (
            ("Failing", _failed, 1 - ANSWERED, "model"),
            ("Late", _late, 1 - PROMPT, m.GEN_AI_MODEL),
        ):
            most = f"{times * budget:.4g}"
            rules.append(
                _alert(
                    f"LFM2{what}{speed}",
                    f"{ratio(long)} > {most} and {ratio(short)} > {most}",
                    "2m",
                    f"{{{{ $labels.{label} }}}}: too many requests "
                    + ("fail or are refused" if what == "Failing" else f"wait over {float(PROMPT_S):g} s for a token"),
                    f"{{{{ $value | humanizePercentage }}}} within {long}, and more than {times:g} times what the"
                    f" objective allows within {short} as well.",
                    severity,
                )
            )
    return rules


def _load() -> list[Rule]:
    waiting = f"sum by (model) ({m.WAITING})"
    hits, queries = (f"sum by (model_name) (rate({name}[15m]))" for name in (m.PREFIX_HITS, m.PREFIX_QUERIES))
    return [
        _alert(
            "LFM2QueueGrowing",
            f"min_over_time(({waiting})[10m:15s]) > 0 and deriv(({waiting})[10m:15s]) > 0.01",
            "1m",
            "{{ $labels.model }}: requests wait for replicas, and more and more of them",
            "For ten minutes never less than {{ $value }}. /autoscaling says why no more replicas come:"
            " max_replicas may be reached.",
        ),
        _alert(
            "LFM2KvCacheFull",
            f"avg by (model_name) ({m.KV_USAGE}) > 0.95",
            "5m",
            "{{ $labels.model_name }}: the KV caches of its replicas are full",
            "{{ $value | humanizePercentage }} in use: sequences are preempted and begin anew. More replicas, a lower"
            " max_running, or a larger share of the GPU help.",
        ),
        _alert(
            "LFM2PrefixCacheUnused",
            f"{hits} == 0 and {queries} > 100",
            "15m",
            "{{ $labels.model_name }}: no prompt finds anything in the prefix cache",
            "Prompts come, and within 15 minutes none began like one before it: the cache is off, routing_policy is"
            " least_loaded, or each prompt begins with something of its own.",
        ),
    ]


def _replicas() -> list[Rule]:
    wanted = f"max by (model) ({m.WANTED})"
    there = f"sum by (model) (max by (model, state) ({m.REPLICAS}))"
    came = f"max by (model) (increase({m.STARTS}[30m]))"
    return [
        _alert(
            "LFM2ReplicasFlapping",
            f'{came} >= 4 and max by (model) (resets({m.REPLICAS}{{state="ready"}}[30m])) >= 4',
            "1m",
            "{{ $labels.model }}: replicas come and go",
            '{{ $value | printf "%.0f" }} came within half an hour, and as often some went. /autoscaling has the reason'
            " of each change; a longer downscale_delay_s, or a higher min_replicas, keeps them.",
        ),
        _alert(
            "LFM2EngineDied",
            f"max by (model) (increase({m.FAILURES}[15m])) > 0",
            "0m",
            "{{ $labels.model }}: a replica failed",
            '{{ $value | printf "%.0f" }} within 15 minutes: its engine, its process or its node. Its log says why. Ray'
            " Serve starts another.",
        ),
        _alert(
            "LFM2StartsFail",
            f"max by (model, reason) ({m.FAILED_STARTS}) >= 3",
            "1m",
            "{{ $labels.model }}: replicas cannot start",
            "{{ $value }} in a row: {{ $labels.reason }}",
            "critical",
        ),
        _alert(
            "LFM2StartsLate",
            f"max by (model) ({m.READY_IN}) == 0",
            "1m",
            "{{ $labels.model }}: replicas take longer to start than was planned",
            "By startup_s, or the start before, they should have served a minute ago: the compile cache is empty,"
            " weights are being downloaded, or no node is free.",
        ),
        _alert(
            "LFM2ReplicasMissing",
            f"{wanted} > {there}",
            "15m",
            "{{ $labels.model }}: fewer replicas than are wanted",
            "{{ $value }} are wanted, for 15 minutes. /ready and `serve status` say what keeps the others.",
        ),
        _alert(
            "LFM2NoReplica",
            f"{there} == 0 and {wanted} > 0",
            "2m",
            "{{ $labels.model }}: no replica serves",
            "None of those that are wanted is there.",
            "critical",
        ),
        _alert(
            "LFM2NotAnswering",
            f"({m.REPLICA_UP} or {m.INGRESS_UP}) == 0",
            "3m",
            "{{ $labels.replica }}{{ $labels.ingress }} does not answer scrapes",
            "For three minutes: what it counts is missing from /metrics, and it may be frozen.",
        ),
    ]
