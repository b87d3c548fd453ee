"""Where the engine takes a request: what goes wrong up to here is the request's fault, and leaves nothing behind."""

from __future__ import annotations

from typing import Any

from vllm.exceptions import VLLMValidationError
from vllm.v1.engine import EngineCoreRequest

from serve_app.engine.continued import ContinuingLLM
from serve_app.engine.faults import is_clients, progress, reason


class AcceptingLLM(ContinuingLLM):
    """Says what is wrong with a request it does not take; vLLM 0.32's own `generate` says "" and 500."""

    async def add_request(self, *args: Any, **kwargs: Any) -> Any:
        """Raises VLLMValidationError, which `generate` passes on."""
        try:
            queue = await super().add_request(*args, **kwargs)
        except Exception as error:
            if is_clients(error):
                raise VLLMValidationError(reason(error)) from error
            raise
        if found := progress.get(None):
            found.accepted = True
        return queue

    async def _add_request(self, request: EngineCoreRequest, *args: Any, **kwargs: Any) -> None:
        try:
            await super()._add_request(request, *args, **kwargs)
        except Exception:
            # It is registered before it is sent, and cannot be sent where it holds a number beyond 64 bits.
            self.output_processor.abort_requests([request.request_id], internal=True)
            raise
