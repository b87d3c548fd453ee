"""What is known of each LFM2 model, from `catalog.yaml`: all that a configuration need not say."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

Entry = dict[str, Any]
BASIS = "packing_basis"
"""The key that is no model's, and says how `packing` is known."""


def fill(entry: Entry) -> Entry:
    """The entry over the catalog's knowledge of its id, or of its source when the id is unknown.

    Mappings are merged key by key, anything else the entry says replaces what the catalog says.
    """
    known = find(entry.get("id")) or find(entry.get("source"))
    if known is None:
        return entry
    defaults = knowledge(known)
    if entry.get("replicas_per_gpu") is not None:
        defaults.pop("gpus", None)
    filled = merge(defaults, entry)
    if (source := _source(entry)) is not None:
        filled["source"] = source
    return filled


def find(name: Any) -> str | None:
    """The catalog's id for a name: spelled the same, else in another case, else the same after the last slash."""
    if not isinstance(name, str):
        return None
    if name in ids():
        return name
    by_name, by_last_part = _lower_case_ids()
    return by_name.get(name.lower()) or by_last_part.get(_last_part(name.lower()))


@functools.cache
def ids() -> tuple[str, ...]:
    """Every model of the catalog."""
    return tuple(_catalog()["models"])


def knowledge(known: str) -> Entry:
    """All the catalog says of one of its ids, its families' defaults included; the caller's own copy."""
    return {key: value for key, value in _whole(known).items() if key != BASIS}


def packing_basis(name: str, packing: int) -> str | None:
    """How it is known that so many engines of a model, and no more, pay on a GPU; None where the catalog does not know
    the model, or has another number."""
    known = find(name)
    whole = {} if known is None else _whole(known)
    return whole.get(BASIS) if whole.get("packing") == packing else None


def merge(below: Entry, above: Entry) -> Entry:
    """A new mapping: `above` over `below`, nested mappings key by key."""
    merged = {key: merge({}, value) if isinstance(value, dict) else value for key, value in below.items()}
    for key, value in above.items():
        if isinstance(value, dict):
            lower = merged.get(key)
            value = merge(lower if isinstance(lower, dict) else {}, value)
        merged[key] = value
    return merged


def _source(entry: Entry) -> str | None:
    """Where the weights are if the entry names them by another spelling than the hub's.

    A path or another owner's repository that ends like a catalog id keeps its own weights.
    """
    name = entry.get("source") or entry.get("id")
    known = find(name)
    if known is None or not isinstance(name, str) or ("/" in name and name.lower() != known.lower()):
        return None
    weights: str = _catalog()["models"][known].get("source", known)
    return None if weights == entry.get("id") else weights


def _whole(known: str) -> Entry:
    return _with_family(_catalog()["models"][known])


def _with_family(entry: Entry) -> Entry:
    family = entry.get("family")
    below = _with_family(_catalog()["families"][family]) if family else {}
    return merge(below, {key: value for key, value in entry.items() if key != "family"})


@functools.cache
def _lower_case_ids() -> tuple[dict[str, str], dict[str, str]]:
    return {one.lower(): one for one in ids()}, {_last_part(one.lower()): one for one in ids()}


def _last_part(name: str) -> str:
    return name.rsplit("/", 1)[-1]


@functools.cache
def _catalog() -> dict[str, dict[str, Entry]]:
    text = Path(__file__).with_name("catalog.yaml").read_text(encoding="utf-8")
    loaded: dict[str, dict[str, Entry]] = yaml.load(text, Loader=yaml.CSafeLoader)
    return loaded
