"""The dashboards of what is asked, and for whom: batches, keys, adapters."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from tools.dashboards import names as m
from tools.dashboards.panels import PER, Query, board, choice, graph, number


def batches() -> Dashboard:
    ended = 'status=~"completed|failed|expired|cancelled"'
    sections = {
        "Now": [
            number("In progress", f'sum({m.BATCHES}{{status=~"in_progress|validating|finalizing"}})', width=8),
            number("Ended", f"sum({m.BATCHES}{{{ended}}})", about="Those that are still kept.", width=8),
            number("Lines a second", f"sum(rate({m.BATCH_LINES}{PER}))", width=8),
        ],
        "Progress": [
            graph("Batches", Query(f"sum by (status) ({m.BATCHES})", "{{status}}"), stacked=True, width=12),
            graph(
                "Lines worked off, a second",
                Query(f"sum by (outcome) (rate({m.BATCH_LINES}{PER}))", "{{outcome}}"),
                stacked=True,
                width=12,
            ),
            graph(
                "Sequences in engines",
                Query(f"sum by (model_name) ({m.RUNNING})", "{{model_name}}"),
                about="Of batches and of people: batches fill what people leave.",
                width=12,
            ),
            graph(
                "Output tokens a second",
                Query(f"sum by (model_name) (rate({m.OUTPUT_TOKENS}{PER}))", "{{model_name}}"),
                width=12,
            ),
        ],
    }
    return board("lfm2-batches", "LFM2: batches", "The Batch API's work.", sections)


def keys() -> Dashboard:
    match = '{key=~"$key"}'
    sections = {
        "Requests": [
            graph(
                "By key",
                Query(f"sum by (key) (rate({m.REQUESTS}{match}{PER}))", "{{key}}"),
                unit="reqps",
                stacked=True,
            ),
            graph(
                "Refused by a limit, or for want of room",
                Query(
                    f'sum by (key) (rate({m.REQUESTS}{{key=~"$key", status="429"}}{PER}))'
                    f" or 0 * sum by (key) (rate({m.REQUESTS}{match}{PER}))",
                    "{{key}}",
                ),
                unit="reqps",
            ),
            graph(
                "Mean wait for a replica",
                Query(
                    f"sum by (key) (rate({m.WAITED}{match}{PER}))"
                    f' / sum by (key) (rate({m.REQUESTS}{{key=~"$key", model!=""}}{PER}))',
                    "{{key}}",
                ),
                unit="s",
            ),
        ],
        "Tokens": [
            graph(
                "A second",
                Query(f"sum by (key, kind) (rate({m.TOKENS}{match}{PER}))", "{{key}} {{kind}}"),
                about="Prompts, of those what was cached, and answers.",
            ),
            graph(
                "Within 24 hours",
                Query(f'sum by (key) (increase({m.TOKENS}{{key=~"$key", kind!="cached"}}[24h]))', "{{key}}"),
                about="Prompts and answers. /v1/usage has exact accounts by day.",
            ),
            graph(
                "Cached part of prompts",
                Query(
                    f'sum by (key) (rate({m.TOKENS}{{key=~"$key", kind="cached"}}{PER}))'
                    f' / sum by (key) (rate({m.TOKENS}{{key=~"$key", kind="prompt"}}{PER}))',
                    "{{key}}",
                ),
                unit="percentunit",
                most=1,
            ),
        ],
    }
    variable = choice("key", "Key", f"label_values({m.REQUESTS}, key)").multi(True).include_all(True).all_value(".*")
    return board("lfm2-keys", "LFM2: keys", "Who asks for how much.", sections, [variable])


def adapters() -> Dashboard:
    ours = '{model="$model"}'
    sections = {
        "Requests": [
            graph(
                "A second",
                Query(f"sum by (adapter) (rate({m.ADAPTER_REQUESTS}{ours}{PER}))", "{{adapter}}"),
                unit="reqps",
                stacked=True,
                width=12,
            ),
            graph(
                "Open",
                Query(
                    f"sum by (adapter) ({m.ADAPTER_OPEN}{ours}) or 0 * sum by (adapter) ({m.ADAPTER_REQUESTS}{ours})",
                    "{{adapter}}",
                ),
                about="Those that wait for their adapter to load among them.",
                stacked=True,
                width=12,
            ),
        ],
        "Loads": [
            graph(
                "Within five minutes",
                Query(f"sum by (adapter) (increase({m.ADAPTER_LOADS}{ours}[5m]))", "{{adapter}}"),
                about="Many: more adapters are asked for than a replica holds (max_loaded), and put each other out.",
                width=12,
            ),
            graph(
                "Mean time",
                Query(
                    f"sum by (adapter) (rate({m.ADAPTER_LOAD_S}{ours}{PER}))"
                    f" / sum by (adapter) (rate({m.ADAPTER_LOADS}{ours}{PER}))",
                    "{{adapter}}",
                ),
                unit="s",
                width=12,
            ),
        ],
    }
    variable = choice("model", "Model", f"label_values({m.ADAPTER_REQUESTS}, model)")
    return board("lfm2-adapters", "LFM2: adapters", "What a model's adapters are asked for.", sections, [variable])
