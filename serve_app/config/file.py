"""A Ray Serve configuration file, or a KubeRay manifest that holds one, and this service's part of it."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass
from typing import Any

import yaml

from serve_app.config import serve_keys
from serve_app.config.errors import ConfigError, Path, Problem, spell
from serve_app.config.schema import ServiceConfig

IMPORT_PATH = "serve_app.app:build"
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Application:
    """One application of the file that is this service."""

    name: str
    route_prefix: str
    config: ServiceConfig
    at: Path
    """Where it lies in the file."""


@dataclass(frozen=True)
class ConfigFile:
    """What a file says, checked."""

    path: str
    applications: tuple[Application, ...]
    http_options: dict[str, Any]
    manifest: bool
    """Whether it is a RayService for Kubernetes."""


def load(path: str | pathlib.Path) -> ConfigFile:
    """Read and check a file; raises ConfigError with everything wrong in it."""
    where = str(path)
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([Problem((), error.strerror or str(error))], where) from None
    except UnicodeDecodeError:
        raise ConfigError([Problem((), "is not UTF-8 text")], where) from None
    problems: list[Problem] = []
    at, data = _serve_config(text, where, problems)
    applications: list[Application] = []
    if isinstance(data, dict):
        applications = _applications(data, at, problems)
    elif not problems:
        problems.append(Problem(at, "should be a mapping: a Ray Serve configuration with `applications`"))
    if problems:
        raise ConfigError(dict.fromkeys(problems), where)
    return ConfigFile(where, tuple(applications), data.get("http_options") or {}, bool(at))


def _serve_config(text: str, where: str, problems: list[Problem]) -> tuple[Path, Any]:
    """Ray Serve's configuration, and where it lies: the top, or a string within a RayService manifest."""
    documents = _parse(text, where, (), problems)
    manifests = [one for one in documents if isinstance(one, dict) and one.get("kind") == "RayService"]
    if not manifests:
        if len(documents) > 1:
            problems.append(Problem((), f"holds {len(documents)} YAML documents, and none is a RayService"))
        return (), documents[0] if documents else None
    at: Path = ("spec", "serveConfigV2")
    spec = manifests[0].get("spec")
    inner = spec.get("serveConfigV2") if isinstance(spec, dict) else None
    if not isinstance(inner, str):
        problems.append(Problem(at, "is required: Ray Serve's configuration as a YAML string (`|`)"))
        return at, None
    parsed = _parse(inner, where, at, problems)
    return at, parsed[0] if parsed else None


def _parse(text: str, where: str, at: Path, problems: list[Problem]) -> list[Any]:
    """The YAML documents of a text; keys written twice, of which YAML would keep the last, are problems."""
    try:
        for root in yaml.compose_all(text, Loader):
            problems += [Problem((*at, *path), "is written twice") for path in _twice(root, ())]
        return [one for one in yaml.load_all(text, Loader) if one is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        reason = getattr(error, "problem", None) or str(error)
        raise ConfigError([Problem(at, f"is not YAML: {line}{reason}")], where) from None


def _twice(node: yaml.Node | None, path: Path) -> list[Path]:
    found: list[Path] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            here = (*path, str(key.value))
            if key.value in seen and key.value != "<<":
                found.append(here)
            seen.add(str(key.value))
            found += _twice(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            found += _twice(value, (*path, index))
    return found


def _applications(data: dict[str, Any], at: Path, problems: list[Problem]) -> list[Application]:
    """This service's applications; what is wrong with them and around them goes to `problems`."""
    problems += serve_keys.problems(data, at)
    listed = data.get("applications")
    at = (*at, "applications")
    if not isinstance(listed, list):
        problems.append(Problem(at, "is required: a list with this service's application"))
        return []
    found: list[Application] = []
    ours: int | None = None
    for index, entry in enumerate(listed):
        here = (*at, index)
        if not isinstance(entry, dict) or entry.get("import_path") != IMPORT_PATH:
            continue
        if ours is not None:
            text = f"is this service again: {spell((*at, ours))} can hold all models"
            problems.append(Problem((*here, "import_path"), text))
            continue
        ours = index
        prefix = entry.get("route_prefix", "/")
        if prefix != "/":
            problems.append(
                Problem((*here, "route_prefix"), f"should be /, where OpenAI's routes begin, not {prefix!r}")
            )
        args = entry.get("args")
        try:
            config = ServiceConfig.parse({} if args is None else args, (*here, "args"))
        except ConfigError as error:
            problems += error.problems
        else:
            config, wrong = serve_keys.overridden(entry, config, here)
            problems += wrong
            found.append(Application(str(entry.get("name", "default")), str(prefix), config, here))
    if ours is None:
        problems.append(Problem(at, f"none has `import_path: {IMPORT_PATH}`"))
    return found
