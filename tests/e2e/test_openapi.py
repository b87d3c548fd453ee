"""/openapi.json is what is answered: Schemathesis asks every operation of it as it describes them."""

from __future__ import annotations

from typing import Any

import httpx

from tests.e2e.conftest import TEXT
from tests.support.schema import check, operations
from tests.support.service import Service

EXAMPLES = 3


def to_the_engine(case: Any) -> None:
    """Half of the bodies name a model that there is, and ask for little."""
    if isinstance(case.body, dict) and len(str(case.body)) % 2:
        case.body["model"] = TEXT
        for name in ("max_tokens", "max_output_tokens", "max_completion_tokens"):
            if name in case.body:
                case.body[name] = 2


def test_every_operation_answers_as_it_is_described(service: Service) -> None:
    asked = {operation.label: check(operation, EXAMPLES, to_the_engine) for operation in operations(service.url)}
    assert {
        "POST /v1/chat/completions",
        "POST /v1/messages/count_tokens",
        "GET /ready",
        "POST /tokenize",
    } <= asked.keys()
    assert all(asked.values())


def test_the_description_is_whole(http: httpx.Client) -> None:
    found = http.get("/openapi.json").json()
    known = found["components"]["schemas"]
    assert {"ErrorAnswer", "AnthropicErrorAnswer", "ChatCompletionRequest"} <= known.keys()
    for path, item in found["paths"].items():
        for operation in item.values():
            assert operation["summary"] and "200" in operation["responses"], path
    assert "/pause" not in found["paths"] and "/v1/files" not in found["paths"]
