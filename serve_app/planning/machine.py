"""What a configuration needs of the machine it is checked on: folders of weights, directories, API keys, packages."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
from collections.abc import Iterator

from serve_app.config import api_keys, keys
from serve_app.config.errors import ConfigError, KeyPath, Problem
from serve_app.config.file import Application, ConfigFile
from serve_app.config.schema import BatchConfig, ModelConfig, UsageConfig
from serve_app.config.vllm_args import PACKAGE, locate

REMOTE = ("s3://", "gs://", "az://")
CONFIGS = ("config.json", "params.json")
WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf")
EXPORTER = "opentelemetry.exporter.otlp.proto.http"
_REPOSITORY = re.compile(r"(?:[\w.-]+/)?[\w.-]+", re.ASCII)


def check_machine(file: ConfigFile, starting: bool = False) -> None:
    """Raises ConfigError for what a file names and this machine does not have; see `problems` for `starting`.

    A RayService is for the machines of a Kubernetes cluster, and what it names is not looked for.
    """
    if not file.manifest and (found := problems(file, starting)):
        raise ConfigError(file.positions.locate(found), file.path)


def problems(file: ConfigFile, starting: bool = False) -> list[Problem]:
    """What cannot be as the file says; when the service is about to start here, keys that are missing too."""
    found: list[Problem] = []
    for application in file.applications:
        at = (*application.at, "args")
        for index, model in enumerate(application.config.models):
            if wrong := without_weights(model):
                key = "id" if model.source is None else "source"
                found.append(Problem((*at, "models", index, key), wrong))
        places: list[tuple[KeyPath, BatchConfig | UsageConfig | None]] = [
            (("batch",), application.config.batch),
            (("ingress", "usage"), application.config.ingress.usage),
        ]
        for path, section in places:
            if section and (wrong := _directory(section.directory)):
                found.append(Problem((*at, *path, "directory"), wrong))
        if application.config.tracing and (missing := _missing(EXPORTER)):
            found.append(Problem((*at, "tracing"), f"needs {missing}: pip install 'serve-app[tracing]'"))
        found += _keys(application, at, starting)
    return found


def without_weights(model: ModelConfig) -> str | None:
    """What is wrong with where a model's weights are; None for a repository, which only its hub knows."""
    name = model.weights
    if model.engine != "vllm" or name.startswith(REMOTE):
        return None
    if name.startswith(PACKAGE):
        folder = pathlib.Path(locate(name))
    elif name.startswith("~"):
        return f"{name} is not read as a home folder: write the path from /"
    else:
        folder = pathlib.Path(name)
        if not name.startswith(("/", ".")) and not folder.exists():
            named = _REPOSITORY.fullmatch(name) and ".." not in name
            return None if named else f"{name!r} is neither a folder here nor a repository (OWNER/NAME)"
    if folder.is_file() and folder.suffix == ".gguf":
        return None
    if not folder.is_dir():
        return f"there is no folder {folder} on this machine"
    if "hf_config_path" not in model.engine_args and not any((folder / one).is_file() for one in CONFIGS):
        return f"the folder {folder} has no config.json"
    weighed = model.engine_args.get("load_format", "auto") != "auto" or any(any(folder.glob(one)) for one in WEIGHTS)
    return None if weighed else f"the folder {folder} has no weights ({', '.join(WEIGHTS)})"


def _missing(module: str) -> str | None:
    """The part of a module's dotted name that is not installed."""
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        if importlib.util.find_spec(name := ".".join(parts[:count])) is None:
            return name
    return None


def _directory(name: str) -> str | None:
    """Why nothing could be kept there."""
    if "\0" in name:
        return f"{name!r} is no path"
    try:
        folder = pathlib.Path(name).expanduser()
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
    except (OSError, RuntimeError, ValueError) as error:
        return f"{name!r}: {error}"
    if not folder.is_dir():
        return f"{folder} is not a folder"
    return None if os.access(folder, os.W_OK | os.X_OK) else f"nothing can be written to {folder}"


def _keys(application: Application, at: KeyPath, starting: bool) -> Iterator[Problem]:
    ingress = application.config.ingress
    for path, entry in keys.entries(ingress.api_keys, ingress.keys):
        if starting or key_exists(entry):
            try:
                api_keys.digests(entry)
            except ValueError as error:
                yield Problem((*at, "ingress", *path), str(error))


def key_exists(entry: str) -> bool:
    """Whether the variable or the file that an entry of `api_keys` or a `key` names exists on this machine."""
    if entry.startswith(api_keys.VARIABLE):
        return entry.removeprefix(api_keys.VARIABLE) in os.environ
    return not entry.startswith(api_keys.FILE) or pathlib.Path(entry.removeprefix(api_keys.FILE)).expanduser().exists()
