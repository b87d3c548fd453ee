"""A service from a user's own configuration, restricted to one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from loadtests.bench.peers import serve_file
from loadtests.bench.peers.ours import up
from loadtests.bench.peers.peer import Peer
from loadtests.bench.peers.setup import PeerSetup
from serve_app.config.errors import ConfigError, Problem
from serve_app.config.file import IMPORT_PATH, load
from serve_app.config.schema import ModelConfig, ServiceConfig
from serve_app.planning.resolve import gpu_share, resolve

HOW_MANY = ("replicas", "autoscaling")
"""Keys of an entry that say how many replicas there are: one of them at a time."""


@dataclass(frozen=True)
class ConfiguredModel:
    """A model's entry in a configuration file, as written and as read."""

    path: Path
    application: int
    """Its index in the file."""
    entry: int
    """The index of the model's entry in the application's `models`."""
    args: dict[str, Any]
    """The application's, as written."""
    service: ServiceConfig
    model: ModelConfig

    @classmethod
    def find(cls, path: Path, name: str) -> ConfiguredModel:
        """The entry of the model that answers to a name, or of the only one where the name is empty.

        Raises ConfigError.
        """
        file = load(path)
        data = yaml.safe_load(path.read_text())
        if "applications" not in data:
            raise ConfigError(
                [Problem((), "is a manifest; give the Ray Serve configuration in it as a file")], str(path)
            )
        ours = [i for i, one in enumerate(data["applications"]) if one.get("import_path") == IMPORT_PATH]
        known = []
        for index, application in zip(ours, file.applications, strict=True):
            service = resolve(application.config).config
            args = data["applications"][index]["args"]
            known += [cls(path, index, entry, args, service, model) for entry, model in enumerate(service.models)]
        found = [one for one in known if one._answers_to(name)] if name else known
        if (name and found) or len(found) == 1:
            return found[0]
        ids = ", ".join(one.model.id for one in known)
        wrong = f"{name!r} is not in it; there are {ids}" if name else f"say which of {ids}"
        raise ConfigError([Problem(("model",), wrong)], str(path))

    def _answers_to(self, name: str) -> bool:
        names = (*self.model.names, self.model.id.rpartition("/")[2])
        return name.lower() in (one.lower() for one in names)

    @property
    def setup(self) -> PeerSetup:
        """What the check that the service answers needs of the model."""
        return PeerSetup(model=self.model.id, source="", gpu=gpu_share(self.model) > 0)

    @property
    def as_written(self) -> dict[str, Any]:
        """The model's entry in the file, without any default filled in."""
        return dict(self.args["models"][self.entry])

    def entry_with(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The entry with other values; what says how many replicas there are replaces all that said so before."""
        drop = [*HOW_MANY] if any(key in changes for key in HOW_MANY) else []
        drop += ["gpus", "replicas_per_gpu"] if "replicas_per_gpu" in changes else []
        return {key: value for key, value in self.as_written.items() if key not in drop} | dict(changes)


def configured(
    name: str, source: ConfiguredModel, entry: Mapping[str, Any], port: int, folder: Path, replicas: int, *options: str
) -> Peer:
    """`serve-app up` with this entry alone, ready when so many replicas are; `options` are further ones of `up`."""
    args = {**source.args, "models": [dict(entry)]}
    config = serve_file.write(folder / f"{name.replace(' ', '-')}.yaml", args, port=port)
    return up(name, config, port, replicas, *options)
