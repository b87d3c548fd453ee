"""Prometheus' text format: one process's page, and the pages of many as one.

A page of many is put together by whoever is asked for it, beside the requests that this process carries. So the work
that grows with the samples is done where they come from: each process labels its own and sends its part of the page,
and parts are joined by whole families.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest

FAMILIES = ("vllm:", "gen_ai_", "serve_app_")
"""How the names of families begin that belong on the page of all."""
CONTENT_TYPE = "text/plain; version=0.0.4"
_NAME = re.compile(r"[a-zA-Z_:][\w:]*")


def own(registry: CollectorRegistry) -> str:
    """The page of one process."""
    return generate_latest(registry).decode()


def part(page: str, label: str, process: str) -> str:
    """A process's part of the page of all: its samples of FAMILIES, each with this label.

    Each family has two lines of comments, its samples, and an empty line behind it.
    """
    told = f'{label}="{process}"'
    comments: dict[str, dict[str, str]] = {}
    samples: dict[str, list[str]] = {}
    family = ""
    for line in page.split("\n"):
        if line.startswith(("# HELP ", "# TYPE ")):
            kind, family = line[2:6], line.split(" ", 3)[2]
            if family.startswith(FAMILIES):
                comments.setdefault(family, {})[kind] = line
        elif family.startswith(FAMILIES) and (name := _NAME.match(line)):
            if line[name.end()] == "{":
                end = line.rindex("}")
                sample = f"{line[:end]},{told}{line[end:]}"
            else:
                sample = f"{name[0]}{{{told}}}{line[name.end() :]}"
            samples.setdefault(family, []).append(sample)
    return "".join(
        "\n".join(
            (
                comments[name].get("HELP", f"# HELP {name} "),
                comments[name].get("TYPE", f"# TYPE {name} untyped"),
                *lines,
                "\n",
            )
        )
        for name, lines in samples.items()
    )


def join(parts: Iterable[bytes]) -> bytes:
    """The parts of several processes as one page, on which each family stands together."""
    families: dict[bytes, list[bytes]] = {}
    for one in parts:
        for family in one.split(b"\n\n")[:-1]:
            help, type, samples = family.split(b"\n", 2)
            name = help.split(b" ", 3)[2]
            known = families.get(name)
            if known is None:
                known = families[name] = [help, type]
            known.append(samples)
    return b"".join(b"\n".join((*lines, b"")) for lines in families.values())
