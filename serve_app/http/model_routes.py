"""The routes of vLLM's that name a model, and what a request on each of them is to a replica."""

from __future__ import annotations

from typing import Literal

Work = Literal["generate", "pool", "prepare"]
"""`generate`: its prompt reaches the engine and a prefix cache. `pool`: the engine reads it once, for an embedding or a
score. `prepare`: a tokenizer's or a template's work, of which the engine sees nothing."""

MODEL_ROUTES: dict[str, Work] = {
    "/v1/chat/completions": "generate",
    "/v1/chat/completions/batch": "generate",
    "/v1/completions": "generate",
    "/v1/responses": "generate",
    "/v1/messages": "generate",
    "/v1/systemone": "generate",
    "/generative_scoring": "generate",
    "/invocations": "generate",
    "/v1/embeddings": "pool",
    "/v2/embed": "pool",
    "/pooling": "pool",
    "/classify": "pool",
    "/score": "pool",
    "/v1/score": "pool",
    "/rerank": "pool",
    "/v1/rerank": "pool",
    "/v2/rerank": "pool",
    "/tokenize": "prepare",
    "/detokenize": "prepare",
    "/v1/messages/count_tokens": "prepare",
}
"""All of them are POST. What another route would have to do is said in `ingress.unoffered`."""
