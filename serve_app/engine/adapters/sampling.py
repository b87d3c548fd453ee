"""Sampling defaults of the adapter that a request is for, over those of its model, vLLM 0.32.

Each part of vLLM's application has the model's in a dictionary of its own, `default_sampling_params`, and asks it with
`get` for what a request leaves open.
"""

from __future__ import annotations

from typing import Any

from serve_app.engine.adapters.serving import current


class AdapterDefaults(dict[str, Any]):
    """Stands for such a dictionary."""

    def get(self, name: str, default: Any = None) -> Any:
        if (adapter := current.get()) is not None:
            for own, value in adapter.sampling:
                if own == name:
                    return value
        return super().get(name, default)

    def __bool__(self) -> bool:
        """An empty one would be left aside."""
        return True
