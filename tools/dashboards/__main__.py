"""`python -m tools.dashboards`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from tools.dashboards import kubernetes, rules
from tools.dashboards.boards import BOARDS

FOLDER = Path(__file__).parents[2] / "dashboards"
WRITTEN = "# Written by `python -m tools.dashboards`.\n"


def files() -> dict[str, str]:
    """All that is written, by name."""
    return {
        **{f"{name}.json": _json(board().build()) for name, board in BOARDS.items()},
        "rules.yaml": WRITTEN + _yaml({"groups": rules.groups()}),
        "kubernetes.yaml": WRITTEN + "---\n".join(map(_yaml, kubernetes.manifests())),
    }


def _json(value: Any) -> str:
    return JSONEncoder(indent=1, sort_keys=True).encode(value) + "\n"


def _yaml(value: Any) -> str:
    return yaml.dump(value, Dumper=_Unshared, sort_keys=False, width=120, allow_unicode=True)


class _Unshared(yaml.SafeDumper):
    """Writes what occurs twice out twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
