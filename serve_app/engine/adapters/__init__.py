"""A replica's LoRA adapters: which are in its engine's memory, and how a request gets its own there."""

VERSION = "#"
"""Between the path of an adapter and the version of its files, in a request to vLLM for it."""
