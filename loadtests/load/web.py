"""A tab of Locust's web UI: output tokens/s, goodput and errors by kind, for each scenario."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from flask import Response, request
from locust.web import WebUI

from loadtests.load.stats import COLUMNS

KEY = "llm"


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
