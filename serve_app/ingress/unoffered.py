"""Routes that OpenAI or vLLM have and this service cannot have, each with its reason."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve_app.http.errors import ApiError

_STORED = (
    "responses are not stored: any of a model's replicas may answer the next request. "
    "Send what was said before in `input`"
)
_DISAGGREGATED = "it is a part of vLLM's disaggregated serving, which this service does not use"
ROUTES = {
    "/v1/responses/{id}": (["GET", "DELETE"], _STORED),
    "/v1/responses/{id}/cancel": (["POST"], _STORED),
    "/v1/responses/{id}/input_items": (["GET"], _STORED),
    "/v1/chat/completions/render": (["POST"], _DISAGGREGATED),
    "/v1/chat/completions/derender": (["POST"], _DISAGGREGATED),
    "/v1/completions/render": (["POST"], _DISAGGREGATED),
    "/v1/completions/derender": (["POST"], _DISAGGREGATED),
    "/v1/messages/render": (["POST"], _DISAGGREGATED),
    "/v1/responses/render": (["POST"], _DISAGGREGATED),
    "/inference/v1/generate": (["POST"], _DISAGGREGATED),
    "/inference/v1/abort_requests": (["POST"], _DISAGGREGATED),
}


class Unoffered:
    """Answers 501 on them."""

    def routes(self) -> list[Route]:
        return [Route(path, _refusing(path, why), methods=methods) for path, (methods, why) in ROUTES.items()]


def _refusing(path: str, why: str) -> Callable[[Request], Awaitable[Response]]:
    async def refuse(request: Request) -> Response:
        raise ApiError(501, f"{path} is not offered: {why}", code="not_offered")

    return refuse
