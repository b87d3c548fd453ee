"""The order of the rooms, and what a file may be: read from the source, so that lazy imports count too."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

import pytest

from tests.support.modules import PRODUCT, Module, modules

SERVE_APP = (
    "torch_cpu",
    "http",
    "compat",
    "config",
    "planning",
    "adapters",
    "replica",
    "routing",
    "accounts",
    "logs",
    "tracing",
    "autoscaling",
    "engine",
    "launching",
    "batch",
    "console",
    "ingress",
    "offline",
    "app",
    "cli",
    "__main__",
    "__init__",
)
"""The rooms of serve_app, the lowest first. `__init__` is the face for Python users, and so the last."""
LOADTESTS = ("__init__", "arguments", "results", "loadgen", "bench", "faults", "planner", "commands")
"""The rooms of loadtests, the lowest first; the modules beside them are its commands."""
MOST_LINES = 350

PRIVATE_OF_RAY = ("ray._private", "ray.serve._private", "ray.experimental.internal_kv", "ray._raylet")
VLLM_BY_NAME = {"loadtests/bench": "a contender that is started, and the client that measures all of them"}
"""Where modules of vLLM are named outside serve_app/engine, and why."""

OPENTELEMETRY_BY_NAME = {
    "serve_app/planning": "looks whether it is installed",
    "loadtests/bench": "measures what it costs",
}
"""Where modules of OpenTelemetry are named outside serve_app/tracing, and why."""


def room(module: Module) -> str:
    """`commands` for a module that lies in loadtests itself."""
    package = module.name.partition(".")[0]
    return "commands" if package == "loadtests" and module.room not in LOADTESTS else module.room


def told(found: Iterable[str], rule: str) -> None:
    """Fails with the rule and each place that breaks it."""
    if places := list(found):
        pytest.fail("\n".join([f"{rule} ({len(places)} places do not hold to that)", *places]), pytrace=False)


def within(name: str, *packages: str) -> bool:
    """Whether a dotted name is one of these modules or lies in one of them."""
    return any(name == package or name.startswith(package + ".") for package in packages)


@pytest.mark.parametrize(("package", "order"), [("serve_app", SERVE_APP), ("loadtests", LOADTESTS)])
def test_a_room_imports_only_rooms_before_it(package: str, order: tuple[str, ...]) -> None:
    def wrong() -> Iterator[str]:
        inside = modules(*PRODUCT)
        for module in (one for one in inside.values() if within(one.name, package)):
            if room(module) not in order:
                yield f"{module.path}: the room {room(module)!r} has no place in the order of this test yet"
                continue
            for one in module.imports:
                if not within(one.target, package) or (target := room(inside[one.target])) == room(module):
                    continue
                if target in order and order.index(target) > order.index(room(module)):
                    yield (
                        f"{module.path}:{one.line} imports {one.target}{' lazily' if one.lazy else ''}: {room(module)}"
                        f" comes before {target}, so {target} may import {room(module)} and not the other way;"
                        f" what both need belongs in {room(module)} or before it"
                    )

    told(wrong(), f"Rooms of {package} import rooms before them: {' < '.join(order)}")


def test_serve_app_imports_neither_load_tests_nor_tools() -> None:
    found = (
        f"{module.path}:{one.line} imports {one.target}"
        for module in modules("serve_app").values()
        for one in module.imports
        if within(one.target, "loadtests", "tools", "tests")
    )
    told(found, "loadtests, tools and tests import serve_app, and serve_app none of them: the wheel holds it alone")


def test_no_modules_import_each_other() -> None:
    inside = modules(*PRODUCT)
    edges = {
        name: {one.target for one in module.imports if one.target in inside and one.target != name}
        for name, module in inside.items()
    }
    circles = (" <-> ".join(sorted(circle)) for circle in strongly_connected(edges) if len(circle) > 1)
    told(circles, "No circle of imports, lazy ones included: what both need goes to a module of its own")


def test_no_file_is_long() -> None:
    found = (
        f"{module.path}: {module.lines} lines"
        for module in modules(*PRODUCT, "tests").values()
        if module.lines > MOST_LINES
    )
    told(found, f"A file has at most {MOST_LINES} lines: one that grows beyond has two topics")


def test_a_class_name_is_one_class() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for module in modules(*PRODUCT).values():
        for line, name in module.classes:
            places[name.lstrip("_")].append(f"{module.path}:{line}")
    twice = (f"{name}: {', '.join(found)}" for name, found in sorted(places.items()) if len(found) > 1)
    told(twice, "A class name stands for one class, whatever underscore it has: the more special one is renamed")


def test_what_is_private_to_ray_is_touched_in_compat_alone() -> None:
    told(
        named(PRIVATE_OF_RAY, ["serve_app/compat"]),
        "Private modules of Ray are touched in serve_app/compat alone, each with a test that fails when it moves",
    )


def test_vllm_is_imported_in_engine_alone() -> None:
    told(
        named(["vllm"], ["serve_app/engine", *VLLM_BY_NAME]),
        "vLLM's modules are imported and named in serve_app/engine alone, which a new version of vLLM is then about",
    )


def test_opentelemetry_is_imported_in_tracing_alone() -> None:
    told(
        named(["opentelemetry"], ["serve_app/tracing", *OPENTELEMETRY_BY_NAME]),
        "OpenTelemetry is an extra: serve_app/tracing alone imports it, which is imported where a configuration asks",
    )


@pytest.mark.parametrize("which", ["ingress", "routing"])
def test_the_data_plane_loads_neither_vllm_nor_torch(which: str) -> None:
    """Neither by itself, nor by what it imports; what is imported in functions of other rooms does not count."""

    def wrong() -> Iterator[str]:
        inside = modules(*PRODUCT)
        ways = {name: name for name, module in inside.items() if within(module.name, f"serve_app.{which}")}
        todo = list(ways)
        while todo:
            module = inside[todo.pop()]
            own = within(module.name, f"serve_app.{which}")
            for one in (one for one in module.imports if own or not one.lazy):
                if within(one.target, "vllm", "torch", "transformers"):
                    yield f"{module.path}:{one.line} imports {one.target}; the way there: {ways[module.name]}"
                elif one.target in inside and one.target not in ways:
                    ways[one.target] = f"{ways[module.name]} -> {one.target}"
                    todo.append(one.target)

    told(wrong(), f"serve_app/{which} runs on nodes without an engine and starts in a second")


def named(names: Iterable[str], allowed: Iterable[str]) -> Iterator[str]:
    """Each place outside the allowed folders that imports one of these modules, reads it as an attribute, or holds its
    dotted name as a string."""
    names, folders = tuple(names), tuple(f"{folder}/" for folder in allowed)
    for module in modules(*PRODUCT).values():
        if module.path.startswith(folders):
            continue
        for one in module.imports:
            if within(one.target, *names):
                yield f"{module.path}:{one.line} imports {one.target}"
        for kind, found in (("reads", module.attributes), ("names", module.strings)):
            for line, text in found:
                if re.fullmatch(r"\w+(\.\w+)+", text) and within(text, *names):
                    yield f"{module.path}:{line} {kind} {text}"


def strongly_connected(edges: dict[str, set[str]]) -> list[set[str]]:
    """The largest groups whose members all reach each other."""
    reached = {name: reachable(edges, name) for name in edges}
    groups: list[set[str]] = []
    for name in sorted(edges):
        if not any(name in group for group in groups):
            groups.append({name} | {other for other in reached[name] if name in reached[other]})
    return groups


def reachable(edges: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    todo = [start]
    while todo:
        new = edges[todo.pop()] - found
        found |= new
        todo += new
    return found


def test_a_circle_is_found() -> None:
    edges: dict[str, set[str]] = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}
    assert strongly_connected(edges) == [{"a"}, {"b", "c"}, {"d"}]
