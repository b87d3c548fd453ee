"""A replica's LoRA adapters: which are in its engine's memory, and how a request gets its own there."""
