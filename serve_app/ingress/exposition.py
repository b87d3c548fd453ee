"""Prometheus' text format: the pages of several processes as one."""

from __future__ import annotations

import re
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest

ENGINES = ("vllm:", "serve_app_tokens", "serve_app_adapter", "serve_app_batch")
"""Families of replicas and of the batch deployment, by how their names begin."""
_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?(?P<rest> .+)$")


def own(registry: CollectorRegistry) -> str:
    """The page of one process."""
    return generate_latest(registry).decode()


def merge(scraped: Iterable[tuple[str, str]], label: str = "replica", families: tuple[str, ...] = ENGINES) -> str:
    """What all processes measure themselves in one text, told apart by a label; of families whose names begin so.

    `scraped` has the value of the label and the page of each.
    """
    comments: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for process, text in scraped:
        family = ""
        for line in text.splitlines():
            if line.startswith("# HELP ") or line.startswith("# TYPE "):
                family = line.split(" ", 3)[2]
                known = comments.setdefault(family, [])
                if len(known) < 2 and line not in known:
                    known.append(line)
            elif family.startswith(families) and (match := _SAMPLE.match(line)):
                labels = f"{match['labels']}," if match["labels"] else ""
                samples.setdefault(family, []).append(f'{match["name"]}{{{labels}{label}="{process}"}}{match["rest"]}')
    return "".join("\n".join([*comments[family], *lines, ""]) for family, lines in samples.items())
