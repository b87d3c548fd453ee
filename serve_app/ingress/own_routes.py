"""This service's own routes as OpenAPI describes them: what they take, what they answer."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
TEXT, INTEGER, NUMBER, BOOLEAN, ANYTHING = (
    {"type": name} for name in ("string", "integer", "number", "boolean", "object")
)
MAYBE_TEXT, MAYBE_INTEGER = {"type": ["string", "null"]}, {"type": ["integer", "null"]}


def record(**properties: Json) -> Json:
    """An object that has all of these."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def by_name(of: Json) -> Json:
    """An object with a value of one kind for each of some names."""
    return {"type": "object", "additionalProperties": of}


def constant(value: str) -> Json:
    return {"type": "string", "const": value}


def listed(item: Json, **more: Json) -> Json:
    """OpenAI's list."""
    return record(object=constant("list"), data={"type": "array", "items": item}, **more)


def paged(item: Json) -> Json:
    return listed(item, first_id=MAYBE_TEXT, last_id=MAYBE_TEXT, has_more=BOOLEAN)


MODEL = record(
    id=TEXT,
    object=constant("model"),
    created=INTEGER,
    owned_by=TEXT,
    root=TEXT,
    parent=MAYBE_TEXT,
    max_model_len=MAYBE_INTEGER,
    kind=TEXT,
    aliases={"type": "array", "items": TEXT},
    replicas=INTEGER,
)
DAY = {"type": "string", "format": "date"}
USAGE = record(
    object=constant("usage"),
    day=DAY,
    key=MAYBE_TEXT,
    model=TEXT,
    requests=INTEGER,
    prompt_tokens=INTEGER,
    cached_tokens=INTEGER,
    output_tokens=INTEGER,
)
REPLICAS = record(ready=INTEGER, wanted=INTEGER)
REPLICAS["properties"]["failed_starts"] = INTEGER
READY = record(status={"enum": ["ready", "starting"]}, models=by_name(REPLICAS))
READY["properties"]["deploy"] = {
    "type": "object",
    "properties": {"state": {"enum": ["changing", "waiting", "failed"]}, "reason": TEXT},
    "required": ["state"],
    "description": "What the last deploy has come to, where it is not what runs.",
}
FILE = record(
    id=TEXT,
    object=constant("file"),
    bytes=INTEGER,
    created_at=INTEGER,
    filename=TEXT,
    purpose=TEXT,
    status=TEXT,
    expires_at=MAYBE_INTEGER,
    key=MAYBE_TEXT,
)
BATCH = record(
    id=TEXT,
    object=constant("batch"),
    endpoint=TEXT,
    input_file_id=TEXT,
    completion_window=TEXT,
    status=TEXT,
    created_at=INTEGER,
    expires_at=INTEGER,
    key=MAYBE_TEXT,
    request_counts=record(total=INTEGER, completed=INTEGER, failed=INTEGER),
)
DELETED = record(id=TEXT, object=constant("file"), deleted=BOOLEAN)
FORM = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {
            "type": "string",
            "contentMediaType": "application/octet-stream",
            "description": "JSON lines, or an image.",
        },
        "purpose": {"type": "string", "description": "`batch` for the input of a batch."},
        "expires_after[anchor]": {"const": "created_at"},
        "expires_after[seconds]": {"type": "integer", "description": "How long it is kept, s."},
    },
}
NEW_BATCH = {
    "type": "object",
    "required": ["input_file_id", "endpoint", "completion_window"],
    "properties": {
        "input_file_id": TEXT,
        "endpoint": {"type": "string", "description": "The route that all of its lines are for."},
        "completion_window": {"const": "24h"},
        "metadata": {"anyOf": [by_name(TEXT), {"type": "null"}]},
    },
}


LOAD_ADAPTER = {
    "type": "object",
    "required": ["lora_name", "lora_path"],
    "properties": {
        "lora_name": {"type": "string", "description": "The name that clients are to use."},
        "lora_path": {"type": "string", "description": "Its folder, absolute or from the directory."},
        "load_inplace": {"type": "boolean", "description": "Whether it may take the place of one of that name."},
        "base_model_name": {"type": ["string", "null"], "description": "The model, where several have adapters."},
    },
}
UNLOAD_ADAPTER = {"type": "object", "required": ["lora_name"], "properties": {"lora_name": {"type": "string"}}}


def operation(summary: str, schema: Json | None, *errors: int, kind: str = "application/json", **more: Any) -> Json:
    """One that answers 200 with such a body, None for an empty one, and these errors."""
    ok: Json = {"description": "OK"} if schema is None else {"description": "OK", "content": {kind: {"schema": schema}}}
    return {"summary": summary, "responses": {"200": ok} | {str(status): status for status in errors}, **more}


def in_path(name: str) -> list[Json]:
    return [{"name": name, "in": "path", "required": True, "schema": TEXT}]


def in_query(**schemas: Json) -> list[Json]:
    return [{"name": name, "in": "query", "schema": schema} for name, schema in schemas.items()]


def body(kind: str, schema: Json) -> Json:
    return {"required": True, "content": {kind: {"schema": schema}}}


PAGE = in_query(limit={"type": "integer", "minimum": 1}, after=TEXT)
NOT_READY = {"503": {"description": "Not yet", "content": {"application/json": {"schema": READY}}}}


def _ready() -> Json:
    found = operation("Each model and how many of its replicas are ready; 503 until every model has one.", READY)
    return {**found, "responses": found["responses"] | NOT_READY, "security": []}


def _ping() -> Json:
    found = operation("/ready without a word, for SageMaker.", None, security=[])
    return {**found, "responses": found["responses"] | {"503": {"description": "Not yet"}}}


PATHS: dict[str, Json] = {
    "/v1/models": {
        "get": operation("The models served here, with their context length, aliases and replicas.", listed(MODEL))
    },
    "/v1/models/{id}": {"get": operation("One of them.", MODEL, 404, parameters=in_path("id"))},
    "/v1/load_lora_adapter": {
        "post": operation(
            "Serves an adapter that lies in a model's directory of adapters.",
            TEXT,
            *(400, 413, 507),
            kind="text/plain",
            requestBody=body("application/json", LOAD_ADAPTER),
        )
    },
    "/v1/unload_lora_adapter": {
        "post": operation(
            "Serves it no more.",
            TEXT,
            *(400, 404, 413, 507),
            kind="text/plain",
            requestBody=body("application/json", UNLOAD_ADAPTER),
        )
    },
    "/health": {"get": operation("This ingress process answers.", record(status=constant("ok")), security=[])},
    "/ready": {"get": _ready()},
    "/ping": {"get": _ping(), "post": _ping()},
    "/autoscaling": {
        "get": operation(
            "What decides how many replicas each model has: what it sees, needs, decides and why.",
            record(models=by_name(ANYTHING)),
        )
    },
    "/load": {
        "get": operation(
            "What each model's replicas hold, and how much of it is not batch work.",
            by_name(record(running=INTEGER, waiting=INTEGER, interactive=INTEGER, interactive_begun=INTEGER)),
        )
    },
    "/version": {
        "get": operation(
            "Versions of this service and its engines.",
            record(version=MAYBE_TEXT, packages=by_name(MAYBE_TEXT), engines=by_name(by_name(TEXT))),
        )
    },
    "/v1/usage": {
        "get": operation(
            "What the key has used, by day and model; an admin's sees all.",
            listed(USAGE),
            *(400, 404, 503),
            parameters=in_query(**{"from": DAY, "to": DAY}),
        )
    },
    "/metrics": {"get": operation("Prometheus metrics of the ingress and of every engine.", TEXT, kind="text/plain")},
    "/metrics/targets": {
        "get": operation(
            "The pages below, for Prometheus' HTTP service discovery.",
            {"type": "array", "items": record(targets={"type": "array", "items": TEXT}, labels=by_name(TEXT))},
        )
    },
    "/metrics/ingress": {"get": operation("Metrics of the ingress alone.", TEXT, kind="text/plain")},
    "/metrics/replicas/{id}": {
        "get": operation("Metrics of one replica.", TEXT, 404, 503, parameters=in_path("id"), kind="text/plain")
    },
    "/openapi.json": {"get": operation("This description.", record(openapi=TEXT, info=ANYTHING, paths=ANYTHING), 503)},
    "/docs": {"get": operation("This API, for people.", TEXT, kind="text/html")},
}
"""Of every service. Errors are numbers here."""
BATCH_PATHS: dict[str, Json] = {
    "/v1/files": {
        "get": operation(
            "Files of the Batch API.",
            paged(FILE),
            *(400, 503),
            parameters=[*PAGE, *in_query(order={"enum": ["asc", "desc"]}, purpose=TEXT)],
        ),
        "post": operation("Uploads one.", FILE, 400, 413, 415, 503, requestBody=body("multipart/form-data", FORM)),
    },
    "/v1/files/{id}": {
        "get": operation("One of them.", FILE, 404, 503, parameters=in_path("id")),
        "delete": operation("Removes it.", DELETED, 404, 409, 503, parameters=in_path("id")),
    },
    "/v1/files/{id}/content": {
        "get": operation("What is in it.", TEXT, 404, 503, parameters=in_path("id"), kind="application/octet-stream")
    },
    "/v1/batches": {
        "get": operation("Batches.", paged(BATCH), 400, 503, parameters=PAGE),
        "post": operation(
            "Creates one.", BATCH, 400, 404, 413, 415, 503, requestBody=body("application/json", NEW_BATCH)
        ),
    },
    "/v1/batches/{id}": {"get": operation("One of them.", BATCH, 404, 503, parameters=in_path("id"))},
    "/v1/batches/{id}/cancel": {"post": operation("Ends it.", BATCH, 404, 409, 503, parameters=in_path("id"))},
}
"""Of one with the Batch API."""
