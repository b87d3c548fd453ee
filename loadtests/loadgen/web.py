"""A tab of Locust's web UI: output tokens/s, goodput and errors by kind, for each scenario."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from typing import Any

from flask import Response, jsonify, request
from locust.env import Environment
from locust.web import WebUI

from loadtests.arguments import BadSpec
from loadtests.loadgen.locust_stats import COLUMNS

KEY = "llm"
FORM_NAMES = {"user_count": "num_users"}
"""What Locust calls the value of a field of its start page, where that is not the field's name."""
NUMBERS = {"num_users": int, "spawn_rate": float, "host": str}
"""Options that have no value yet, which would tell their type."""


def extend(web_ui: WebUI, rows: Callable[[], list[dict[str, Any]]]) -> None:
    """Add the tab; the page reads its rows from the answer that it polls for Locust's own statistics."""
    structure = [{"key": key, "title": title} for key, title in COLUMNS.items()]
    web_ui.template_args |= {
        "extended_tabs": [{"title": "LLM", "key": KEY}],
        "extended_tables": [{"key": KEY, "structure": structure}],
    }

    assert web_ui.app is not None

    @web_ui.app.after_request
    def add_rows(response: Response) -> Response:
        if request.path.endswith("/stats/requests") and response.is_json:
            found = response.get_json()
            found["extended_stats"] = [{"key": KEY, "data": rows()}]
            response.set_data(json.dumps(found))
        return response


def check_first(web_ui: WebUI, environment: Environment, check: Callable[[argparse.Namespace], None]) -> None:
    """Show why a test cannot be, in place of starting it; `check` raises BadSpec."""
    assert web_ui.app is not None

    @web_ui.app.before_request
    def refuse() -> Response | None:
        if request.method != "POST" or not request.path.endswith("/swarm"):
            return None
        try:
            check(_with_form(environment.parsed_options, request.form))
        except BadSpec as error:
            return jsonify({"success": False, "message": str(error), "host": environment.host})
        return None


def _with_form(parsed: Any, form: Mapping[str, str]) -> argparse.Namespace:
    """Options as Locust is about to set them from the start page's form. Raises BadSpec."""
    found = argparse.Namespace(**vars(parsed))
    for name, text in form.items():
        name = FORM_NAMES.get(name, name)
        kind = NUMBERS.get(name) or type(getattr(found, name, None))
        try:
            if kind is bool:
                setattr(found, name, text == "true")
            elif kind in (int, float, str):
                setattr(found, name, kind(text))
        except ValueError:
            raise BadSpec(f"{name} must be a number; got {text!r}") from None
    return found
