"""What vLLM and Ray Serve declare a setting to be, read from their source: type, choices and bounds.

Importing either takes longer than all of `check`. What the source leaves open, or what this reader does not
understand, is right.
"""

from __future__ import annotations

import ast
import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from serve_app.config.errors import unknown_key
from serve_app.config.package_source import DEPTH, PackageSource, open_source

Problems = dict[tuple[str | int, ...], str]
"""What is wrong, by where it is within the value."""
NUMBERS: dict[str, type[int] | type[float]] = {"int": int, "StrictInt": int, "PositiveInt": int, "NonNegativeInt": int}
NUMBERS |= {"float": float, "PositiveFloat": float, "NonNegativeFloat": float}
LISTS = frozenset({"list", "List", "set", "Set", "tuple", "Tuple", "Sequence", "frozenset"})
MAPPINGS = frozenset({"dict", "Dict", "Mapping"})
NOT_IN_YAML = frozenset({"type", "Type", "Callable"})
BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "gt": ("above", lambda value, bound: value > bound),
    "ge": ("at least", lambda value, bound: value >= bound),
    "lt": ("below", lambda value, bound: value < bound),
    "le": ("at most", lambda value, bound: value <= bound),
}
LONGEST_SHOWN = 40
MOST_NAMED = 20
LAX = "ray"
"""Reads its numbers from text as well."""


class Kind(NamedTuple):
    """One thing a value may be."""

    says: str
    check: Callable[[Any], Problems]


ANYTHING = Kind("anything", lambda value: {})


@dataclass(frozen=True)
class Field:
    """A setting of a class."""

    annotation: ast.expr
    value: ast.expr | None
    """Its default, as written."""
    source: PackageSource

    def problems(self, value: Any) -> Problems:
        """What is wrong with a value for it."""
        default = self._default()
        if value is None and isinstance(default, ast.Constant) and default.value is None:
            return {}
        return check(value, self.annotation, self.source) or _out_of_bounds(value, self._declaration())

    def _declaration(self, depth: int = 0) -> ast.expr | None:
        """The expression behind `OtherConfig.field` and `get_field(OtherConfig, "field")`."""
        owner = name = None
        if isinstance(self.value, ast.Attribute) and isinstance(self.value.value, ast.Name):
            owner, name = self.value.value.id, self.value.attr
        elif isinstance(self.value, ast.Call) and [type(arg) for arg in self.value.args] == [ast.Name, ast.Constant]:
            owner, name = ast.unparse(self.value.args[0]), ast.literal_eval(self.value.args[1])
        found = self.source.find_class(owner) if owner and depth < DEPTH else None
        if found and (field := fields(*found).get(str(name))):
            return field._declaration(depth + 1)
        return self.value

    def _default(self) -> ast.expr | None:
        declared = self._declaration()
        if isinstance(declared, ast.Call):
            named = {keyword.arg: keyword.value for keyword in declared.keywords}
            return named.get("default") or next(iter(declared.args), None)
        return declared


def declared(package: str, file: str, cls: str) -> dict[str, Field]:
    """Fields of a class of an installed package; none where it is not installed or has no such class."""
    source = open_source(package, file)
    found = source.find_class(cls) if source else None
    return fields(*found) if found else {}


def dictionary_keys(package: str, file: str, name: str) -> frozenset[str]:
    """Keys of a mapping written out at the top of a file; none where there is no such thing."""
    source = open_source(package, file)
    found = source.find(name) if source else None
    value = getattr(found[0], "value", None) if found else None
    keys = value.keys if isinstance(value, ast.Dict) else []
    return frozenset(str(key.value) for key in keys if isinstance(key, ast.Constant))


def fields(cls: ast.ClassDef, source: PackageSource) -> dict[str, Field]:
    """Public fields that can be given, those of base classes in the same package included."""
    found: dict[str, Field] = {}
    for base in cls.bases:
        if isinstance(base, ast.Name) and (above := source.find_class(base.id)):
            found |= fields(*above)
    for line in cls.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.target.id[0] != "_":
            options = {one.arg: one.value for one in line.value.keywords} if isinstance(line.value, ast.Call) else {}
            given = options.get("init")
            if "ClassVar" not in ast.unparse(line.annotation) and getattr(given, "value", True) is not False:
                found[line.target.id] = Field(line.annotation, line.value, source)
    return found


def check(value: Any, annotation: ast.expr, source: PackageSource) -> Problems:
    """What is wrong with a value that is declared to be of this type."""
    kinds = [kind for kind in _kinds(annotation, source, 0) if kind.says]
    found = [kind.check(value) for kind in kinds]
    if not all(found):
        return {}
    if deeper := next((problems for problems in found if () not in problems), None):
        return deeper
    told = next((text for problems in found if (text := problems[()]).startswith("should ")), None)
    text = " or ".join(dict.fromkeys(kind.says for kind in kinds))
    return {(): told or f"should be {text}, not {shown(value)}"}


def shown(value: Any) -> str:
    """A value for a message: short ones as they are."""
    text = "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def listed(names: Iterable[str]) -> str:
    """The first of these, and how many more there are."""
    names = list(dict.fromkeys(names))
    rest = f" and {len(names) - MOST_NAMED} others" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + rest


def _kinds(node: ast.expr, source: PackageSource, depth: int) -> Iterator[Kind]:
    if depth > DEPTH:
        yield ANYTHING
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from _kinds(ast.parse(node.value, mode="eval").body, source, depth + 1)
    elif isinstance(node, ast.Constant):
        yield Kind("null", lambda value: {} if value is None else {(): "null"})
    elif isinstance(node, ast.BinOp):
        for side in (node.left, node.right):
            yield from _kinds(side, source, depth)
    elif isinstance(node, ast.Name):
        yield from _named_kind(node.id, source, depth)
    elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        yield from _generic(node.value.id, node.slice, source, depth)
    else:
        yield ANYTHING


def _generic(name: str, inside: ast.expr, source: PackageSource, depth: int) -> Iterator[Kind]:
    parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
    if name in ("Union", "Optional"):
        for part in parts:
            yield from _kinds(part, source, depth)
        if name == "Optional":
            yield from _kinds(ast.Constant(None), source, depth)
    elif name == "Annotated":
        for kind in _kinds(parts[0], source, depth):
            yield Kind(kind.says, partial(_bounded, kind, parts[1:]))
    elif name == "Literal":
        yield _choice(list(_choices(parts, source, 0)))
    elif name in LISTS:
        yield Kind("a list", lambda value: _each(value, list, parts[0], source))
    elif name in MAPPINGS:
        yield Kind("a mapping", lambda value: _each(value, dict, parts[-1], source))
    elif name in NOT_IN_YAML:
        yield Kind("", lambda value: {(): ""})
    else:
        yield ANYTHING


def _named_kind(name: str, source: PackageSource, depth: int) -> Iterator[Kind]:
    found = source.find(name)
    if name in NUMBERS:
        yield _number(name, lax=source.package == LAX)
    elif name == "bool":
        yield Kind("true or false", lambda value: {} if isinstance(value, bool) else {(): name})
    elif name == "str":
        yield Kind("text", lambda value: {} if isinstance(value, str) else {(): name})
    elif name in LISTS | MAPPINGS:
        yield from _generic(name, ast.Name("Any"), source, depth)
    elif name in NOT_IN_YAML:
        yield Kind("", lambda value: {(): ""})
    elif found and isinstance(found[0], ast.Assign | ast.AnnAssign) and found[0].value is not None:
        yield from _kinds(found[0].value, found[1], depth + 1)
    elif found and isinstance(found[0], ast.ClassDef):
        yield _class(found[0], found[1])
    else:
        yield ANYTHING


def _class(cls: ast.ClassDef, source: PackageSource) -> Kind:
    if any("Enum" in ast.unparse(base) for base in cls.bases):
        members = [line for line in cls.body if isinstance(line, ast.Assign)]
        return _member(members) if members else ANYTHING
    known = fields(cls, source)
    return Kind("a mapping", lambda value: mapping(value, known)) if known else ANYTHING


def mapping(value: Any, known: dict[str, Field]) -> Problems:
    """What is wrong with a mapping of these fields."""
    if not isinstance(value, dict):
        return {(): "a mapping"}
    found: Problems = {}
    for key, inner in value.items():
        if key in known:
            found |= {(key, *path): text for path, text in known[key].problems(inner).items()}
        else:
            found[(str(key),)] = unknown_key(str(key), known)
    return found


def _choice(choices: list[Any]) -> Kind:
    def check(value: Any) -> Problems:
        return {} if any(value == one and type(value) is type(one) for one in choices) else {(): ""}

    return Kind(f"one of {listed(map(str, choices))}", check)


def _member(members: list[ast.Assign]) -> Kind:
    """Of an enumeration: by name, in either case, or by value."""
    names = [ast.unparse(line.targets[0]) for line in members]
    values = [line.value.value for line in members if isinstance(line.value, ast.Constant)]
    known = {str(one).lower() for one in [*names, *values]}
    return Kind(f"one of {listed(names)}", lambda value: {} if str(value).lower() in known else {(): ""})


def _choices(parts: list[ast.expr], source: PackageSource, depth: int) -> Iterator[Any]:
    for part in parts:
        if isinstance(part, ast.Constant):
            yield part.value
        elif isinstance(part, ast.Name) and depth < DEPTH and (found := source.find(part.id)):
            value = getattr(found[0], "value", None)
            if isinstance(value, ast.Subscript):
                inside = value.slice
                yield from _choices(inside.elts if isinstance(inside, ast.Tuple) else [inside], found[1], depth + 1)


def _number(name: str, lax: bool) -> Kind:
    whole = NUMBERS[name] is int
    bounds = {"gt": 0} if name.startswith("Positive") else {"ge": 0} if name.startswith("NonNegative") else {}

    def check(value: Any) -> Problems:
        if lax and isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = NUMBERS[name](value)
        right = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not right or not math.isfinite(value):
            return {(): name}
        return _outside(value, bounds)

    return Kind("a whole number" if whole else "a number", check)


def _each(
    value: Any, container: type[dict[Any, Any]] | type[list[Any]], annotation: ast.expr, source: PackageSource
) -> Problems:
    if not isinstance(value, container):
        return {(): container.__name__}
    items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
    found: Problems = {}
    for key, inner in items:
        found |= {(key, *path): text for path, text in check(inner, annotation, source).items()}
    return found


def _out_of_bounds(value: Any, declaration: ast.expr | None) -> Problems:
    return _bounds_of(value, [declaration]) if declaration is not None else {}


def _bounded(kind: Kind, calls: list[ast.expr], value: Any) -> Problems:
    return kind.check(value) or _bounds_of(value, calls)


def _bounds_of(value: Any, calls: list[ast.expr]) -> Problems:
    """Of `Field(..., gt=0)`."""
    keywords = [keyword for call in calls if isinstance(call, ast.Call) for keyword in call.keywords]
    bounds = {str(one.arg): one.value.value for one in keywords if isinstance(one.value, ast.Constant)}
    return _outside(value, bounds)


def _outside(value: Any, bounds: dict[str, Any]) -> Problems:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return {}
    for name, (words, holds) in BOUNDS.items():
        bound = bounds.get(name)
        if isinstance(bound, int | float) and not holds(value, bound):
            return {(): f"should be {words} {bound}, not {value}"}
    return {}
