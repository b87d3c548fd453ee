"""The project's modules as their source says: what each imports, names and defines, without importing any."""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = ("serve_app", "loadtests", "tools")
"""The packages that are not tests."""


@dataclass(frozen=True)
class Import:
    """One name that a module imports."""

    line: int
    target: str
    """The project's module that is imported; for a foreign package the dotted name, `package.module.name`."""
    lazy: bool
    """Imported in a function, when that is called, or for type checkers alone."""


@dataclass(frozen=True)
class Module:
    """One Python file."""

    name: str
    """Dotted; a package has the name of its folder."""
    path: str
    """From the repository's root."""
    lines: int
    imports: tuple[Import, ...]
    strings: tuple[tuple[int, str], ...]
    """The line and the text of each string literal."""
    attributes: tuple[tuple[int, str], ...]
    """The line and the dotted name of each `a.b.c` that is read."""
    classes: tuple[tuple[int, str], ...]
    """The line and the name of each class, nested ones included."""

    @property
    def room(self) -> str:
        """The part of its package that it belongs to: `routing` for serve_app.routing.pool, `app` for serve_app.app."""
        return (*self.name.split("."), "__init__")[1]


@functools.cache
def modules(*packages: str) -> dict[str, Module]:
    """All modules of some top-level folders, by name."""
    paths = [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]
    return {_name(path): _read(path) for path in paths}


@functools.cache
def _product() -> frozenset[str]:
    """The names of all modules that are not tests."""
    return frozenset(_name(path) for package in PRODUCT for path in (ROOT / package).rglob("*.py"))


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def _read(path: Path) -> Module:
    name, text = _name(path), path.read_text()
    tree = ast.parse(text)
    nodes = list(ast.walk(tree))
    later = {id(inner) for node in nodes if _is_later(node) for inner in ast.walk(node)}
    imports = []
    for node in nodes:
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            targets = [f"{_from(node, name, path)}.{alias.name}" for alias in node.names]
        else:
            continue
        imports += [Import(node.lineno, _module(target), id(node) in later) for target in targets]
    return Module(
        name=name,
        path=str(path.relative_to(ROOT)),
        lines=text.count("\n"),
        imports=tuple(sorted(imports, key=lambda one: one.line)),
        strings=tuple((n.lineno, n.value) for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)),
        attributes=tuple((n.lineno, ast.unparse(n)) for n in nodes if isinstance(n, ast.Attribute)),
        classes=tuple((n.lineno, n.name) for n in nodes if isinstance(n, ast.ClassDef)),
    )


def _is_later(node: ast.AST) -> bool:
    """Whether what stands in it is not run as the module is imported."""
    only_for_types = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    return only_for_types or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def _from(node: ast.ImportFrom, importer: str, path: Path) -> str:
    """The module of `from MODULE import`, whose dots are resolved."""
    if not node.level:
        return node.module or ""
    package = importer.split(".") if path.name == "__init__.py" else importer.split(".")[:-1]
    return ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])


def _module(target: str) -> str:
    """The longest beginning of a dotted name that is a module of the project, else the whole."""
    words = target.split(".")
    beginnings = (".".join(words[:count]) for count in range(len(words), 0, -1))
    return next((one for one in beginnings if one in _product()), target)
