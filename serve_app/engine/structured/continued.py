"""Takes a grammar forward over what another replica has said of an answer; imported in the engine's process.

There an answer that goes on is a request whose prompt ends with what was said. vLLM 0.32 would begin its grammar anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vllm.v1.structured_output import StructuredOutputManager

SAID_TOKENS = "serve_app_said_tokens"
"""In the `extra_args` of a request's sampling parameters: how many tokens at the end of its prompt were said."""


def _forwarded(create: Callable[..., Any]) -> Callable[..., Any]:
    def create_grammar(manager: Any, request: Any) -> Any:
        grammar = create(manager, request)
        count = (request.sampling_params.extra_args or {}).get(SAID_TOKENS, 0)
        if count and not grammar.accept_tokens(request.request_id, request.prompt_token_ids[-count:]):
            raise ValueError("what was said of this answer does not follow its grammar")
        return grammar

    return create_grammar


StructuredOutputManager._create_grammar = _forwarded(StructuredOutputManager._create_grammar)
