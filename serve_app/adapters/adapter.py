"""One LoRA adapter of a model: what who routes knows of it, and tells the replica with each of its requests."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache

from serve_app.config.adapters import AdaptersConfig


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter as it is at present. Two that differ in anything but `wrong` are two to an engine."""

    id: str
    """The name clients use."""
    source: str
    """Its folder: a repository, a path, or `package:PATH` inside serve_app."""
    sampling: tuple[tuple[str, float], ...] = ()
    """Sampling defaults over those of the model, by name."""
    version: str = ""
    """Of its files: another one where they have changed. Empty where they are not looked at."""
    wrong: str | None = field(default=None, compare=False)
    """Why no engine can use it; None where nothing is known to be wrong."""

    def __bytes__(self) -> bytes:
        """As the value of a header."""
        return _write(self)

    @classmethod
    def read(cls, value: bytes) -> Adapter:
        """What `bytes` wrote."""
        return _read(value)


@lru_cache(maxsize=1024)
def _write(adapter: Adapter) -> bytes:
    told = [adapter.id, adapter.source, adapter.sampling, adapter.version]
    return json.dumps(told, separators=(",", ":")).encode()


@lru_cache(maxsize=1024)
def _read(value: bytes) -> Adapter:
    id, source, sampling, version = json.loads(value)
    return Adapter(id, source, tuple((name, number) for name, number in sampling), version)


def listed(config: AdaptersConfig | None) -> list[Adapter]:
    """Those that a model's entry lists."""
    if config is None:
        return []
    return [
        Adapter(one.id, one.source, tuple(one.sampling.model_dump(exclude_none=True).items()) if one.sampling else ())
        for one in config.list
    ]
