"""The dashboards of the service and its models, and the list of all."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from tools.dashboards import names as m
from tools.dashboards.panels import PER, Query, board, choice, graph, number, percentiles
from tools.dashboards.work import adapters, batches, keys

ANSWERED, REFUSED, FAILED = 'status=~"[23].*"', 'status=~"4.*"', 'status=~"5.*"'


def overview() -> Dashboard:
    sections = {
        "Now": [
            number("Requests", f"sum(rate({m.REQUESTS}{PER}))", "reqps"),
            number(
                "Failed or refused",
                f"sum(rate({m.REQUESTS}{{{m.ERRORS}}}{PER})) / sum(rate({m.REQUESTS}{PER})) or vector(0)",
                "percentunit",
                "Of all requests: 5xx, and 429 for want of a replica.",
            ),
            number("Output", f"sum(rate({m.OUTPUT_TOKENS}{PER}))", "short", "Tokens a second of all answers."),
            number("Open", f"sum({m.IN_FLIGHT})", about="Requests that are being answered or wait."),
            number("Waiting", f"sum({m.WAITING})", about="Sequences held until a replica has room."),
            number("Replicas", f'sum(max by (model) ({m.REPLICAS}{{state="ready"}}))'),
        ],
        "Requests": [
            graph(
                "Requests by outcome",
                *(
                    Query(f"sum(rate({m.REQUESTS}{{{which}}}{PER})) or vector(0)", name)
                    for name, which in (("answered", ANSWERED), ("refused", REFUSED), ("failed", FAILED))
                ),
                unit="reqps",
                stacked=True,
            ),
            graph("Requests by model", Query(f"sum by (model) (rate({m.REQUESTS}{PER}))", "{{model}}"), unit="reqps"),
            percentiles("To the first byte", m.FIRST_BYTE, about="Of an answer that is not streamed, its end."),
            percentiles("Requests in all", m.DURATION),
            graph("Waiting", Query(f"sum by (model) ({m.WAITING})", "{{model}}")),
            graph(
                "Answers that lost their replica",
                Query(f"sum(rate({m.CONTINUED}{PER}))", "gone on elsewhere"),
                Query(f"sum(rate({m.BROKEN}{PER}))", "cut off"),
                Query(f"sum(rate({m.RETRIES}{PER}))", "sent to another replica"),
                unit="reqps",
            ),
        ],
        "Engines": [
            graph(
                "Output tokens a second",
                Query(f"sum by (model_name) (rate({m.OUTPUT_TOKENS}{PER}))", "{{model_name}}"),
                stacked=True,
            ),
            graph(
                "KV cache in use",
                Query(f"avg by (model_name) ({m.KV_USAGE})", "{{model_name}}"),
                unit="percentunit",
                most=1,
            ),
            graph(
                "Replicas",
                Query(f'max by (model) ({m.REPLICAS}{{state="ready"}})', "{{model}}"),
                Query(f"max by (model) ({m.WANTED})", "{{model}}, wanted"),
            ),
            graph(
                "Replicas that failed",
                Query(f"max by (model) (increase({m.FAILURES}[5m]))", "{{model}}"),
                Query(f"max by (model) ({m.FAILED_STARTS}) or 0 * max by (model) ({m.WANTED})", "{{model}}, starts"),
                about="Within five minutes; and starts that failed in a row.",
            ),
        ],
    }
    return board("lfm2-overview", "LFM2: overview", "All models of the service.", sections)


def model() -> Dashboard:
    ours, engine = '{model="$model"}', '{model_name="$model"}'
    asked = f'{{{m.GEN_AI_MODEL}="$model"}}'
    sections = {
        "Latency": [
            percentiles("To the first token", m.TTFT, asked, "With the wait for a replica."),
            percentiles("Between tokens", m.TPOT, asked, "A request's mean time for a token after the first."),
            percentiles("Queue of the engine", m.QUEUE_TIME, engine),
            percentiles("To the first byte", m.FIRST_BYTE, ours, "At the ingress: with the wait for a replica."),
            percentiles("Requests in all", m.DURATION, ours),
            graph(
                "Wait for a replica",
                Query(f"max({m.EXPECTED_WAIT}{ours})", "of a request that comes now"),
                Query(f"sum(rate({m.WAITED}{ours}{PER})) / sum(rate({m.DURATION}_count{ours}{PER}))", "mean"),
                unit="s",
                about="The first is unknown while no answer ends.",
            ),
        ],
        "Load": [
            graph(
                "Requests by status",
                Query(f"sum by (status) (rate({m.REQUESTS}{ours}{PER}))", "{{status}}"),
                unit="reqps",
                stacked=True,
            ),
            graph(
                "Tokens a second",
                Query(f"sum(rate({m.PROMPT_TOKENS}{engine}{PER}))", "prompts"),
                Query(f"sum(rate({m.OUTPUT_TOKENS}{engine}{PER}))", "answers"),
            ),
            graph(
                "Sequences",
                Query(f"sum({m.RUNNING}{engine})", "running"),
                Query(f"sum({m.QUEUED}{engine})", "queued in engines"),
                Query(f"sum({m.WAITING}{ours})", "waiting for a replica"),
            ),
            graph(
                "Refused for want of a replica",
                Query(f"sum by (reason) (rate({m.REFUSED}{ours}{PER}))", "{{reason}}"),
                unit="reqps",
            ),
            graph("Bytes sent", Query(f"sum(rate({m.SENT_BYTES}{ours}{PER}))", "answers"), unit="Bps"),
            graph(
                "Answers that lost their replica",
                Query(f"sum by (cause) (rate({m.CONTINUED}{ours}{PER}))", "gone on elsewhere, {{cause}}"),
                Query(f"sum(rate({m.BROKEN}{ours}{PER}))", "cut off"),
                Query(f"sum(rate({m.RETRIES}{ours}{PER}))", "sent to another replica"),
                Query(f"sum(rate({m.FROZEN}{ours}{PER}))", "replicas found frozen"),
                unit="reqps",
            ),
        ],
        "Replicas": [
            graph(
                "How many",
                Query(f"max by (state) ({m.REPLICAS}{ours})", "{{state}}"),
                Query(f"max({m.WANTED}{ours})", "wanted"),
            ),
            graph(
                "Coming and going",
                Query(f"max(increase({m.STARTS}{ours}[5m]))", "came"),
                Query(f"max(increase({m.FAILURES}{ours}[5m]))", "failed"),
                about="Within five minutes.",
            ),
            graph(
                "Picked for",
                Query(f"sum by (place) (rate({m.PICKS}{ours}{PER}))", "{{place}}"),
                unit="reqps",
                about="The replica that has a request's prefix, its second place, another, or any.",
            ),
            graph("Running", Query(f"sum by (replica) ({m.RUNNING}{engine})", "{{replica}}"), stacked=True),
            graph(
                "KV cache in use",
                Query(f"max by (replica) ({m.KV_USAGE}{engine})", "{{replica}}"),
                unit="percentunit",
                most=1,
            ),
            graph(
                "Prefix cache",
                Query(f"sum(rate({m.PREFIX_HITS}{engine}{PER})) / sum(rate({m.PREFIX_QUERIES}{engine}{PER}))", "hits"),
                unit="percentunit",
                most=1,
                about="Of the tokens of prompts, those that an earlier request had left in the cache.",
            ),
            graph(
                "Preemptions",
                Query(f"sum by (replica) (rate({m.PREEMPTIONS}{engine}{PER}))", "{{replica}}"),
                unit="ops",
            ),
        ],
    }
    variable = choice("model", "Model", f"label_values({m.WANTED}, model)")
    return board("lfm2-model", "LFM2: one model", "A model's latency, load and replicas.", sections, [variable])


def nodes() -> Dashboard:
    by_node = f"* on (replica) group_left (node) ({m.REPLICA_UP} >= bool 0)"
    sections = {
        "Replicas by node": [
            graph("How many", Query(f"count by (node, model) ({m.REPLICA_UP})", "{{node}} {{model}}"), stacked=True),
            graph(
                "Not answering",
                Query(f"count by (node) ({m.REPLICA_UP}) - sum by (node) ({m.REPLICA_UP})", "{{node}}"),
                about="Replicas that did not answer the last scrape in time.",
            ),
            graph(
                "Output tokens a second",
                Query(f"sum by (node) (rate({m.OUTPUT_TOKENS}{PER}) {by_node})", "{{node}}"),
                stacked=True,
            ),
            graph("Running", Query(f"sum by (node) ({m.RUNNING} {by_node})", "{{node}}"), stacked=True),
            graph(
                "KV cache in use",
                Query(f"max by (node, replica) ({m.KV_USAGE} {by_node})", "{{node}} {{replica}}"),
                unit="percentunit",
                most=1,
            ),
        ],
        "GPUs (Ray's metrics)": [
            graph(
                "Busy",
                Query(f"max by (ip, GpuIndex) ({m.GPU_BUSY})", "{{ip}} GPU {{GpuIndex}}"),
                unit="percent",
                most=100,
            ),
            graph(
                "Memory in use",
                Query(f"max by (ip, GpuIndex) ({m.GPU_MEMORY_MIB})", "{{ip}} GPU {{GpuIndex}}"),
                unit="mbytes",
            ),
            graph(
                "Memory free",
                Query(f"max by (ip, GpuIndex) ({m.GPU_MEMORY_FREE_MIB})", "{{ip}} GPU {{GpuIndex}}"),
                unit="mbytes",
            ),
        ],
        "Hosts (Ray's metrics)": [
            graph("CPU", Query(f"max by (ip) ({m.NODE_CPU})", "{{ip}}"), unit="percent", most=100, width=12),
            graph(
                "Memory in use",
                Query(f"max by (ip) ({m.NODE_MEMORY}) / max by (ip) ({m.NODE_MEMORY_TOTAL})", "{{ip}}"),
                unit="percentunit",
                most=1,
                width=12,
            ),
        ],
    }
    return board("lfm2-nodes", "LFM2: GPUs and nodes", "Which replicas are where, and how busy that is.", sections)


BOARDS = {
    "overview": overview,
    "model": model,
    "nodes": nodes,
    "batches": batches,
    "keys": keys,
    "adapters": adapters,
}
"""By the names of their files."""
