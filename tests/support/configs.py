"""Configuration files of tests, and what is found wrong with them."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.config.errors import ConfigError
from serve_app.config.file import load
from serve_app.planning import check
from serve_app.planning.machine import check_machine

CONFIGS = Path(__file__).parents[2] / "configs"
SHIPPED = sorted(CONFIGS.glob("*.yaml"))
DEMO = {"id": "lfm2-demo", "gpus": 0}
AT = "applications[0].args."
"""The place of the service's own part in a file of `written`."""


def application(*models: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """An application of these models, or of the demo model, with `args` and other keys as `changes` say."""
    args = {"models": list(models) or [DEMO], **changes.pop("args", {})}
    return {"name": "a", "import_path": "serve_app.app:build", "args": args, **changes}


def written(folder: Path, *applications: dict[str, Any], **top: Any) -> Path:
    """A configuration file of these applications, with further keys at its top."""
    path = folder / "service.yaml"
    path.write_text(yaml.safe_dump({"applications": list(applications), **top}))
    return path


def accepted(path: Path) -> None:
    """Raises ConfigError for anything wrong in a file, or not on this machine."""
    check_machine(load(path))


def problems(path: Path) -> dict[str, str]:
    """What is wrong in a file, by its place."""
    with pytest.raises(ConfigError) as caught:
        accepted(path)
    assert str(path) in str(caught.value)
    return dict(str(problem).split(": ", 1) for problem in caught.value.problems)


def told(folder: Path, *applications: dict[str, Any], **top: Any) -> dict[str, str]:
    """What is wrong with these applications, by its place in the file."""
    return problems(written(folder, *applications, **top))


def of_model(folder: Path, **entry: Any) -> dict[str, str]:
    """What is wrong with a model's entry, by its place in it."""
    found = told(folder, application({"id": "some/model"} | entry))
    return {where.removeprefix(f"{AT}models[0]."): text for where, text in found.items()}


def report(path: Path) -> str:
    """What `check` prints of a file that is right."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert check.main([str(path)]) == 0
    return printed.getvalue()
