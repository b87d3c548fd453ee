"""What a route is in OpenTelemetry's conventions for generative AI: the values of `gen_ai.operation.name`.

github.com/open-telemetry/semantic-conventions-genai, which is not stable yet; what it has no word for is named after
the route.
"""

from __future__ import annotations

OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/chat/completions/batch": "chat",
    "/v1/responses": "chat",
    "/v1/messages": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v2/embed": "embeddings",
}
PROVIDER = "serve_app"
"""`gen_ai.provider.name`: who answers."""


def operation(path: str) -> str:
    """Of a model route, `rerank` for `/v1/rerank`."""
    return OPERATIONS.get(path) or path.rpartition("/")[2]
