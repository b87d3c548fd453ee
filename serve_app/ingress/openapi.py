"""The OpenAPI description of this service: what its replicas say of their routes, and what the ingress adds.

Of vLLM's description the requests are kept. Its answers are replaced: errors are this service's, on every route, and a
stream is an answer too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from serve_app.http.dialects import AnthropicErrors, dialect
from serve_app.http.model_routes import MODEL_ROUTES
from serve_app.ingress.own_routes import ANYTHING, BATCH_PATHS, MAYBE_TEXT, PATHS, TEXT, Json, constant, record

ERRORS = {
    400: "Something is wrong with the request; the message says what, and `param` where.",
    401: "No API key, or a wrong one.",
    403: "The API key is not for this.",
    404: "There is no such model, object or route.",
    408: "The body did not arrive in time.",
    409: "Not in the state it is in.",
    413: "The body is too large.",
    415: "The content type is not application/json.",
    429: "Every replica is full; Retry-After says when to try again.",
    431: "The headers are too large.",
    500: "The service failed; its log says why.",
    502: "The replica failed.",
    503: "No replica is ready; Retry-After says when to try again.",
    507: "Nothing can be written where it would be kept.",
}
OF_MODELS = (400, 404, 408, 413, 415, 429, 500, 502, 503)
"""Errors of a route that leads to a model."""
EVERYWHERE = (431,)
SCHEMAS: dict[str, Json] = {
    "ErrorAnswer": record(error=record(message=TEXT, type=TEXT, param=MAYBE_TEXT, code=MAYBE_TEXT)),
    "AnthropicErrorAnswer": record(
        type=constant("error"), error=record(type=TEXT, message=TEXT), request_id=MAYBE_TEXT
    ),
}
SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
INVOCATIONS = {"type": "object", "description": "The body of a chat or of a completion."}
KEPT = ("summary", "description", "operationId", "requestBody")
"""Of what vLLM says of a route."""
_REF = "#/components/schemas/"


def document(replicas: Sequence[Mapping[str, Any]], names: Iterable[str], *, batches: bool, keys: bool) -> Json:
    """Of a service with these replicas' descriptions, one of each model, and these models' names.

    `batches` says whether it has the Batch API, `keys` whether it asks for API keys.
    """
    own = PATHS | (BATCH_PATHS if batches else {})
    paths: dict[str, Json] = {}
    schemas: dict[str, Json] = {}
    for described in replicas:
        schemas |= described.get("components", {}).get("schemas", {})
        for path, item in described["paths"].items():
            if path in MODEL_ROUTES and "post" in item:
                paths.setdefault(path, {"post": _model_operation(path, item["post"], sorted(names))})
    paths = {path: paths[path] for path in MODEL_ROUTES if path in paths}
    for path, item in own.items():
        paths[path] = {method: _with_errors(path, one, keys) for method, one in item.items()}
    for path in paths.keys() & MODEL_ROUTES.keys():
        paths[path]["post"] = _with_errors(path, paths[path]["post"], keys)
    kept = {name: schemas[name] for name in _used(paths, schemas)} | SCHEMAS
    components: Json = {"schemas": kept} | ({"securitySchemes": SECURITY} if keys else {})
    info = {"title": "LFM2 on Ray Serve", "version": replicas[0]["info"]["version"] if replicas else "0"}
    found = {"openapi": "3.1.0", "info": info, "paths": paths, "components": components}
    return found | ({"security": [{"bearer": []}, {"x-api-key": []}]} if keys else {})


def _model_operation(path: str, described: Mapping[str, Any], names: list[str]) -> Json:
    """A route of vLLM's as clients of this service meet it."""
    answers = {"application/json": {"schema": ANYTHING}}
    if MODEL_ROUTES[path] == "generate":
        answers["text/event-stream"] = {"schema": TEXT}
    kept = {
        key: copy.deepcopy(described[key])
        for key in ("summary", "description", "operationId", "requestBody")
        if key in described
    }
    if "requestBody" not in kept:
        kept["requestBody"] = {"required": True, "content": {"application/json": {"schema": INVOCATIONS}}}
    errors = {str(status): status for status in OF_MODELS}
    note = f"`model` is one of {', '.join(names)}."
    kept["description"] = "\n\n".join(filter(None, (kept.get("description", ""), note)))
    return {**kept, "responses": {"200": {"description": "OK", "content": answers}} | errors}


def _with_errors(path: str, operation: Mapping[str, Any], keys: bool) -> Json:
    """With the numbers among its answers spelled out, and those that every route may give."""
    schema = "AnthropicErrorAnswer" if isinstance(dialect(path), AnthropicErrors) else "ErrorAnswer"
    wanted = dict(operation["responses"])
    wanted |= {str(status): status for status in EVERYWHERE if str(status) not in wanted}
    if keys and operation.get("security") != []:
        wanted |= {"401": 401, "403": 403}
    answers = {
        status: _error(answer, schema) if isinstance(answer, int) else answer
        for status, answer in sorted(wanted.items())
    }
    return {**operation, "responses": answers}


def _error(status: int, schema: str) -> Json:
    content = {"application/json": {"schema": {"$ref": _REF + schema}}}
    found: Json = {"description": ERRORS[status], "content": content}
    if status in (429, 503):
        found["headers"] = {"Retry-After": {"description": "Seconds.", "schema": TEXT}}
    return found


def _used(paths: Any, schemas: Mapping[str, Any]) -> list[str]:
    """Names of the replicas' schemas that the paths lead to, in order."""
    found: set[str] = set()
    waiting = [paths]
    while waiting:
        new = {name for name in _references(waiting.pop()) if name in schemas} - found
        found |= new
        waiting += [schemas[name] for name in new]
    return sorted(found)


def _references(part: Any) -> Iterator[str]:
    waiting = [part]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            target = one.get("$ref")
            if isinstance(target, str) and target.startswith(_REF):
                yield target.removeprefix(_REF)
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
