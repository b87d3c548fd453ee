"""A Ray Serve configuration file, or a KubeRay manifest that holds one, and this service's part of it."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from serve_app.config import serve_keys
from serve_app.config.errors import ConfigError, KeyPath, Problem, spell
from serve_app.config.schema import ServiceConfig
from serve_app.config.yaml_document import YamlDocument, descend, documents

IMPORT_PATH = "serve_app.app:build"
MANIFEST_KIND = "RayService"
IN_MANIFEST: KeyPath = ("spec", "serveConfigV2")
"""Where a manifest holds Ray Serve's configuration, as a string of YAML."""


@dataclass(frozen=True)
class Application:
    """One application of the file that is this service."""

    name: str
    route_prefix: str
    config: ServiceConfig
    at: KeyPath
    """Where it lies in the file."""


@dataclass(frozen=True)
class Positions:
    """The lines of a file on which its keys stand."""

    outer: YamlDocument | None = None
    """The document with Ray Serve's configuration or the manifest; None in a file without any."""
    inner: YamlDocument | None = None
    """The configuration in a manifest's string, where that is written line by line (`|`)."""
    above_inner: int = 0
    """Lines of the file before the string's first."""

    def line(self, path: KeyPath) -> int | None:
        """The line of the deepest part of `path` that stands in the file; None for the file as a whole."""
        if not path or self.outer is None:
            return None
        if self.inner is not None and path[: len(IN_MANIFEST)] == IN_MANIFEST and len(path) > len(IN_MANIFEST):
            return self.above_inner + self.inner.line(path[len(IN_MANIFEST) :])
        return self.outer.line(path)

    def locate(self, problems: Iterable[Problem]) -> list[Problem]:
        """The problems, each once, with their lines where they have none yet."""
        found = (one if one.line else replace(one, line=self.line(one.path)) for one in problems)
        return list(dict.fromkeys(found))


@dataclass(frozen=True)
class ConfigFile:
    """What a file says, checked."""

    path: str
    applications: tuple[Application, ...]
    http_options: dict[str, Any]
    manifest: bool
    """Whether it is a RayService for Kubernetes."""
    positions: Positions = field(default_factory=Positions, compare=False, repr=False)


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
    try:
        at, data, positions = _serve_config(text, problems)
    except _NotYaml as error:
        raise ConfigError([error.problem], where) from None
    applications: list[Application] = []
    if isinstance(data, dict):
        applications = _applications(data, at, problems)
    elif not problems:
        problems.append(Problem(at, "should be a mapping: a Ray Serve configuration with `applications`"))
    if problems:
        raise ConfigError(positions.locate(problems), where)
    return ConfigFile(where, tuple(applications), data.get("http_options") or {}, bool(at), positions)


class _NotYaml(Exception):
    """A text that is not YAML; `problem` says where and why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def _serve_config(text: str, problems: list[Problem]) -> tuple[KeyPath, Any, Positions]:
    """Where Ray Serve's configuration lies in a file, the top or a manifest's string, what it is, and its lines."""
    found = _parsed(text, (), problems)
    manifest = next(
        (one for one in found if isinstance(one.data, dict) and one.data.get("kind") == MANIFEST_KIND), None
    )
    if manifest is None:
        if len(found) > 1:
            problems.append(Problem((), f"holds {len(found)} YAML documents, and none is a {MANIFEST_KIND}"))
        return (), found[0].data if found else None, Positions(found[0] if found else None)
    positions = Positions(manifest)
    spec = manifest.data.get("spec")
    inner = spec.get("serveConfigV2") if isinstance(spec, dict) else None
    if not isinstance(inner, str):
        problems.append(Problem(IN_MANIFEST, "is required: Ray Serve's configuration as a YAML string (`|`)"))
        return IN_MANIFEST, None, positions
    node = descend(manifest.root, IN_MANIFEST)
    literal = isinstance(node, yaml.ScalarNode) and node.style == "|"
    # The string's own first line is the one after that of `|`.
    above = node.start_mark.line + 1 if literal else None
    parsed = _parsed(inner, IN_MANIFEST, problems, above, positions.line(IN_MANIFEST))
    if parsed and above is not None:
        positions = replace(positions, inner=parsed[0], above_inner=above)
    return IN_MANIFEST, parsed[0].data if parsed else None, positions


def _parsed(
    text: str, at: KeyPath, problems: list[Problem], above: int | None = 0, otherwise: int | None = None
) -> list[YamlDocument]:
    """The documents of a YAML text; keys written twice are problems. Raises _NotYaml.

    So many lines of the file are `above` the text; where that is None its lines are not the file's, and all of it is
    on the line `otherwise`.
    """
    found = []
    try:
        for document in documents(text):
            found.append(document)
            for path, line in document.twice:
                in_file = otherwise if above is None else above + line
                problems.append(Problem((*at, *path), "is written twice", in_file))
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or str(error)
        if mark is None:
            problem = Problem(at, f"is not YAML: {reason}", otherwise)
        elif above is None:
            problem = Problem(at, f"is not YAML: line {mark.line + 1}, column {mark.column + 1}: {reason}", otherwise)
        else:
            problem = Problem(at, f"is not YAML: column {mark.column + 1}: {reason}", above + mark.line + 1)
        raise _NotYaml(problem) from None
    return found


def _applications(data: dict[str, Any], at: KeyPath, problems: list[Problem]) -> list[Application]:
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
        place = (*at, index)
        if not isinstance(entry, dict) or entry.get("import_path") != IMPORT_PATH:
            continue
        if ours is not None:
            text = f"is this service again: {spell((*at, ours))} can hold all models"
            problems.append(Problem((*place, "import_path"), text))
            continue
        ours = index
        prefix = entry.get("route_prefix", "/")
        if prefix != "/":
            problems.append(
                Problem((*place, "route_prefix"), f"should be /, where OpenAI's routes begin, not {prefix!r}")
            )
        args = entry.get("args")
        try:
            config = ServiceConfig.parse({} if args is None else args, (*place, "args"))
        except ConfigError as error:
            problems += error.problems
        else:
            config, wrong = serve_keys.overridden(entry, config, place)
            problems += wrong
            found.append(Application(str(entry.get("name", "default")), str(prefix), config, place))
    if ours is None:
        problems.append(Problem(at, f"none has `import_path: {IMPORT_PATH}`"))
    return found
