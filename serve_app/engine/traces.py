"""vLLM's spans of the requests that are traced, vLLM 0.32.

Where traces are on it makes one of each request that ends: of one that is part of no trace it would look for a parent
in all of the process's environment, and find none.
"""

from __future__ import annotations

from typing import Any


def install(llm: Any) -> None:
    """To be called before the first request."""
    outputs = llm.output_processor
    trace = outputs.do_tracing

    def do_tracing(output: Any, state: Any, statistics: Any) -> None:
        if output.trace_headers:
            trace(output, state, statistics)

    outputs.do_tracing = do_tracing
