"""LoRA adapters of a model: which there are, and how many of them a replica has room for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from serve_app.config.names import Id
from serve_app.config.sections import AtLeastOne, Directory, Sampling, Section


class AdapterEntry(Section):
    """An adapter that the configuration lists."""

    id: Id
    """The name clients use, as they use a model's."""
    source: Annotated[str, Field(min_length=1)]
    """Its folder as PEFT writes it: a repository, a path, or `package:PATH` inside serve_app."""
    sampling: Sampling | None = None
    """Sampling defaults, over those of the model."""


class AdaptersConfig(Section):
    """The adapters of one model, each of which is a model to clients."""

    max_loaded: AtLeastOne = 8
    """Adapters that one replica has in memory at the same time (vLLM's max_loras); another one takes the place of the
    one that was used longest ago."""
    max_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 32
    """Adapters of a higher rank are refused. Memory is taken for `max_loaded` of this rank, whatever theirs is."""
    directory: Directory | None = None
    """Every folder in it that has an `adapter_config.json` is an adapter named like the folder; they come and go while
    the service runs. On a cluster, a file system that every node shares."""
    preload: tuple[Id, ...] = ()
    """Adapters that a replica loads before it is ready."""
    list: tuple[AdapterEntry, ...] = ()
    """Adapters that are elsewhere, or have sampling defaults of their own."""

    @model_validator(mode="after")
    def _consistent(self) -> AdaptersConfig:
        listed = [one.id for one in self.list]
        if twice := next((id for id in listed if listed.count(id) > 1), None):
            raise ValueError(f"two adapters of the list have the id {twice!r}")
        if not listed and self.directory is None:
            raise ValueError("needs a directory or a list, or there could be no adapter")
        unknown = next((id for id in self.preload if id not in listed), None)
        if unknown is not None and self.directory is None:
            raise ValueError(f"preload names {unknown!r}, which is not in the list")
        if len(self.preload) > self.max_loaded:
            raise ValueError(f"preload names {len(self.preload)} adapters, and max_loaded is {self.max_loaded}")
        return self
