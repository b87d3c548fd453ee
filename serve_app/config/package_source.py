"""The source of an installed package: what a name in one of its files stands for, without importing any of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

DEPTH = 6
"""Imports of imports that are followed."""


class PackageSource:
    """A file of a package, and the names it defines or imports at its top."""

    def __init__(self, root: Path, file: Path) -> None:
        self._root = root
        self.package = root.name
        self._names: dict[str, ast.stmt] = {}
        for line in _top(ast.parse(file.read_text(encoding="utf-8")).body):
            for name in _named(line):
                self._names.setdefault(name, line)

    def find_class(self, name: str) -> tuple[ast.ClassDef, PackageSource] | None:
        """The class of this name; None where it is none or not known."""
        line, source = self.find(name) or (None, self)
        return (line, source) if isinstance(line, ast.ClassDef) else None

    def find(self, name: str, depth: int = 0) -> tuple[ast.stmt, PackageSource] | None:
        """What a name stands for, followed through imports inside the package; None where that is not known."""
        line = self._names.get(name)
        if not isinstance(line, ast.ImportFrom):
            return (line, self) if line is not None else None
        imported = next(one.name for one in line.names if name in (one.asname, one.name))
        package, _, rest = (line.module or "").partition(".")
        if line.level or package != self.package or depth > DEPTH:
            return None
        below = self._root / rest.replace(".", "/") if rest else self._root
        file = next((one for one in (below.with_suffix(".py"), below / "__init__.py") if one.is_file()), None)
        return _read(self._root, file).find(imported, depth + 1) if file else None


def open_source(package: str, file: str) -> PackageSource | None:
    """A file of a package; None where it is not installed or has no such file."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / file
    return _read(path.parents[file.count("/")], path) if path.is_file() else None


def _top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements at the top of a file, those under `if TYPE_CHECKING` and `try` too."""
    for line in body:
        if isinstance(line, ast.If | ast.Try):
            yield from _top(line.body)
            yield from _top(line.orelse)
        else:
            yield line


def _named(line: ast.stmt) -> list[str]:
    if isinstance(line, ast.ImportFrom):
        return [one.asname or one.name for one in line.names]
    if isinstance(line, ast.ClassDef):
        return [line.name]
    targets = line.targets if isinstance(line, ast.Assign) else [line.target] if isinstance(line, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


@lru_cache
def _read(root: Path, file: Path) -> PackageSource:
    return PackageSource(root, file)
