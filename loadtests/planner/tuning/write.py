"""The tuned configuration: the file given, with one model's entry changed and every comment outside that entry kept.

The text is edited where PyYAML's marks say the entry lies; nothing is dumped anew, so order, quoting and comments stay.
A round trip through ruamel.yaml would not do: it hangs a comment on the key before it, so that what stands above the
next entry would end up within this one, and the comment beside a key that goes would stand beside another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from loadtests.planner.tuning.derive import Number
from serve_app.config.yaml_document import descend

REPLACED = {"replicas": "autoscaling", "gpus": "replicas_per_gpu"}
"""Keys that a new key makes wrong, as they say the same: a fixed number of replicas beside autoscaling."""


@dataclass(frozen=True)
class Place:
    """Where a model's entry lies in a file: the indices of its application and of the entry in `args.models`."""

    application: int
    model: int


def tuned(text: str, place: Place, numbers: Sequence[Number], heading: Iterable[str]) -> str:
    """`text` with the numbers in the entry at `place`, each under a comment that says where it is from.

    A number's key may name a section (`autoscaling.min_replicas`); what else the section holds is kept. `heading` are
    lines for the top of the file, without `#`.
    """
    entry = _entry(text, place)
    start, end = entry.start_mark.index, _end(text, entry)
    indent = " " * entry.start_mark.column
    lines = _lines(text, entry, numbers, indent)
    top = "".join(f"# {line}".rstrip() + "\n" for line in heading)
    return top + text[:start] + f"\n{indent}".join(lines).replace(f"\n{indent}\n", "\n\n") + text[end:]


def _lines(text: str, entry: yaml.MappingNode, numbers: Sequence[Number], indent: str) -> list[str]:
    """The new entry, a line each; those of a kept value hold its own line breaks."""
    plain = [one for one in numbers if "." not in one.key]
    sections: dict[str, list[Number]] = {}
    for one in numbers:
        if "." in one.key:
            section, _, key = one.key.partition(".")
            sections.setdefault(section, []).append(Number(key, one.value, one.why))
    new = {one.key for one in plain} | set(sections)
    gone = new | {old for old, cause in REPLACED.items() if cause in new}
    lines = _kept(text, entry, gone)
    for one in plain:
        lines += _number(one, "")
    for section, values in sections.items():
        lines.append(f"{section}:")
        for one in values:
            lines += _number(one, "  ")
        had = next((value for key, value in entry.value if key.value == section), None)
        if isinstance(had, yaml.MappingNode):
            lines += [f"  {line}" for line in _kept(text, had, {one.key for one in values})]
    return lines


def _number(number: Number, indent: str) -> list[str]:
    return [f"{indent}# {number.why}", f"{indent}{number.key}: {number.value:g}"]


def _kept(text: str, mapping: yaml.MappingNode, gone: set[str]) -> list[str]:
    """The pairs of a mapping that stay, with the comments around them."""
    lines = []
    before = mapping.start_mark.index
    for key, value in mapping.value:
        start, end = key.start_mark.index, _end(text, value)
        if not mapping.flow_style:
            end = _end_of_line(text, end)
            lines += [line.strip() for line in text[before:start].splitlines() if line.strip().startswith("#")]
        if key.value not in gone:
            lines.append(text[start:end].rstrip())
        before = end
    return lines


def _entry(text: str, place: Place) -> yaml.MappingNode:
    """The entry's node as written: the nodes of a `YamlDocument` have the pairs that `<<` takes in among their own."""
    path = ("applications", place.application, "args", "models", place.model)
    root: Any = yaml.compose(text, yaml.SafeLoader)
    entry = descend(root, path)
    if not isinstance(entry, yaml.MappingNode):
        raise ValueError(f"the entry of model {place.model} is not a mapping")
    return entry


def _end(text: str, node: yaml.Node) -> int:
    """Where a node's own text ends; YAML's own mark for a block is where the next thing begins, past comments."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(last, tuple) else last)
    start, end = node.start_mark.index, node.end_mark.index
    return start + len(text[start:end].rstrip())


def _end_of_line(text: str, index: int) -> int:
    """Past a comment that follows on the same line."""
    found = text.find("\n", index)
    return len(text) if found < 0 else found
