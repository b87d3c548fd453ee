"""A YAML document that knows the line of each of its parts.

PyYAML reads the values, as it does for `serve run`, so that both understand a scalar such as `1e3` or `yes` alike. The
lines are those of the nodes that PyYAML makes the values from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from serve_app.config.errors import KeyPath

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MERGE = "<<"
"""The key that takes the pairs of another mapping in, and may stand in a mapping more than once."""


@dataclass(frozen=True)
class YamlDocument:
    """One document of a YAML text."""

    data: Any
    root: yaml.Node
    """Its pairs of mappings hold those that `<<` takes in, before the mapping's own."""
    twice: tuple[tuple[KeyPath, int], ...]
    """Keys that stand in one mapping once more, and the lines on which they do; YAML keeps the last of each."""

    def line(self, path: KeyPath) -> int:
        """The line of the deepest part of `path` that is there; the first line of the text is 1."""
        node, mark = self.root, self.root.start_mark
        for part in path:
            found = child(node, part)
            if found is None:
                break
            node = found[1]
            mark = found[0].start_mark
        return int(mark.line) + 1


def documents(text: str) -> Iterator[YamlDocument]:
    """The documents of a YAML text that are not empty.

    Raises yaml.YAMLError, and ValueError for a scalar that looks like a date and is none.
    """
    loader = Loader(text)
    try:
        while loader.check_node():
            root: Any = loader.get_node()
            # Before the data are made, which puts the pairs of merged mappings among a mapping's own.
            twice = tuple(_twice(root, (), set()))
            data = loader.construct_document(root)
            if data is not None:
                yield YamlDocument(data, root, twice)
    finally:
        loader.dispose()


def child(node: yaml.Node, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """Where a key or an index stands in a mapping or a sequence, and its value; None where it does not."""
    if isinstance(node, yaml.MappingNode):
        return next((pair for pair in reversed(node.value) if pair[0].value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def descend(node: yaml.Node, path: KeyPath) -> yaml.Node:
    """The node of the value at `path` below a node; raises KeyError where there is none."""
    for part in path:
        found = child(node, part)
        if found is None:
            raise KeyError(path)
        node = found[1]
    return node


def _twice(node: yaml.Node, path: KeyPath, above: set[int]) -> Iterator[tuple[KeyPath, int]]:
    """`above` holds the nodes on the way here: one that holds itself, by an alias, is not followed for ever."""
    if id(node) in above:
        return
    above = above | {id(node)}
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen and name != MERGE:
                yield (*path, name), key.start_mark.line + 1
            seen.add(name)
            yield from _twice(value, (*path, name), above)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _twice(value, (*path, index), above)
