"""Ray Serve's own part of a configuration file: what it would refuse after the start, or pass over in silence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from serve_app.config import declared, known_keys, names
from serve_app.config.declared import shown
from serve_app.config.errors import KeyPath, Problem, nearest
from serve_app.config.schema import ServiceConfig

HIGHEST_PORT = 65_535
LONGEST_NAME = 60
"""Characters of an application's name; Ray names log files after it."""
SET_HERE = {
    "autoscaling_config": "the model's `autoscaling`",
    "request_router_config": "nothing: the service sets it",
    "user_config": "`args`: these deployments take no user_config",
    "gang_scheduling_config": "nothing: replicas start one by one",
}
"""Overrides of a deployment that would take the service apart, and what to write instead."""
SET_BY_MODEL = {"num_gpus": "gpus", "num_cpus": "cpus"}
_HOST = re.compile(r"[A-Za-z0-9_.:%-]+")


def problems(data: dict[str, Any], at: KeyPath) -> list[Problem]:
    """What is wrong around the applications' `args`: keys, values, ports, names given twice."""
    known = known_keys.serve_fields("ServeDeploySchema")
    present = {key: value for key, value in data.items() if value is not None}
    wrong = declared.mapping(present, known) if known else {}
    # `overridden` says more of a number of replicas.
    told = {path: text for path, text in wrong.items() if path != ("applications",) and path[-1] != "num_replicas"}
    own = [one for one in (*_listening(present), *_applications(present)) if one[0] not in told]
    return [Problem((*at, *path), text) for path, text in (*told.items(), *own)]


def _listening(data: dict[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    taken: dict[int, str] = {}
    for section in ("http_options", "grpc_options"):
        options = data.get(section)
        options = options if isinstance(options, dict) else {}
        if str(options.get("port", "")).lstrip("-").isdecimal():
            port = int(options["port"])
            if not 1 <= port <= HIGHEST_PORT:
                yield (section, "port"), f"should be from 1 to {HIGHEST_PORT}, not {port}"
            elif port in taken:
                yield (section, "port"), f"is {taken[port]}.port too"
            taken[port] = section
        host, root_path = options.get("host", "localhost"), options.get("root_path", "")
        if not _HOST.fullmatch(str(host)):
            yield (section, "host"), f"should be an address or a host's name, not {shown(host)}"
        if root_path and not str(root_path).startswith("/"):
            yield (section, "root_path"), f"should begin with /, not {shown(root_path)}"
        for key in ("request_timeout_s", "keep_alive_timeout_s"):
            if isinstance(value := options.get(key), int | float) and value < 0:
                yield (section, key), f"should be at least 0, not {value}"


def _applications(data: dict[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    listed = data.get("applications")
    seen: dict[tuple[str, str], int] = {}
    for index, entry in enumerate(listed if isinstance(listed, list) else []):
        if not isinstance(entry, dict):
            continue
        place = ("applications", index)
        for key, default in (("name", "default"), ("route_prefix", "/")):
            value = entry.get(key, default)
            if value is not None and (key, str(value)) in seen:
                yield (*place, key), f"{shown(value)} is that of applications[{seen[key, str(value)]}] too"
            seen.setdefault((key, str(value)), index)
        name = entry.get("name", "default")
        if isinstance(name, str) and not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            yield (*place, "name"), f"should be of letters, digits, `_`, `.` and `-`, not {shown(name)}"
        elif isinstance(name, str) and len(name) > LONGEST_NAME:
            yield (*place, "name"), f"has {len(name)} characters: {LONGEST_NAME} at most"


def overridden(entry: dict[str, Any], config: ServiceConfig, at: KeyPath) -> tuple[ServiceConfig, list[Problem]]:
    """The service with what the application's `deployments` change of it, and what is wrong with them."""
    models = {names.deployment(model.id): model for model in config.models}
    known = [*models, names.INGRESS, *([names.BATCH] if config.batch else [])]
    found: list[Problem] = []
    seen: set[str] = set()
    replicas: dict[str, int] = {}
    listed = entry.get("deployments")
    for index, one in enumerate(listed if isinstance(listed, list) else []):
        if not isinstance(one, dict):
            continue
        place, name = (*at, "deployments", index), one.get("name")
        if name not in known:
            near = nearest(str(name), known)
            hint = f"did you mean `{near}`?" if near else f"there are {declared.listed(known)}"
            found.append(Problem((*place, "name"), f"no deployment is called {shown(name)}; {hint}"))
            continue
        if name in seen:
            found.append(Problem((*place, "name"), f"{name} is overridden twice"))
        seen.add(name)
        count = one.get("num_replicas")
        if isinstance(count, int):
            replicas[name] = count
        found += _override(one, place, models[name].autoscaling is not None if name in models else False)
        if name == names.BATCH and count not in (None, 1):
            found.append(Problem((*place, "num_replicas"), "should be 1: one process works through all batches"))
    return (config, found) if found else (_with_replicas(config, replicas), [])


def _override(one: dict[str, Any], place: KeyPath, scaled: bool) -> Iterator[Problem]:
    count = one.get("num_replicas")
    if count is not None and scaled:
        yield Problem(
            (*place, "num_replicas"), "fixes the number that the model's `autoscaling` would choose: keep one"
        )
    elif count == 0:
        yield Problem((*place, "num_replicas"), "should be at least 1; `autoscaling: {min_replicas: 0}` may go to none")
    elif count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 0):
        yield Problem((*place, "num_replicas"), f"should be a whole number, not {shown(count)}; or use `autoscaling`")
    for key, instead in SET_HERE.items():
        if one.get(key) is not None:
            yield Problem((*place, key), f"is set by the service: use {instead}")
    options = one.get("ray_actor_options")
    for key, instead in SET_BY_MODEL.items():
        if isinstance(options, dict) and options.get(key) is not None:
            yield Problem((*place, "ray_actor_options", key), f"is set by the service: use `{instead}` in `args`")


def _with_replicas(config: ServiceConfig, replicas: dict[str, int]) -> ServiceConfig:
    models = tuple(
        model.model_copy(update={"replicas": replicas.get(names.deployment(model.id), model.replicas)})
        for model in config.models
    )
    ingress = config.ingress.model_copy(update={"replicas": replicas.get(names.INGRESS, config.ingress.replicas)})
    return config.model_copy(update={"models": models, "ingress": ingress})
