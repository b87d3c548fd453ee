"""Patches a module when a process imports it: most workers never import what is patched, and importing it takes long.

Which processes of Ray's do so is `serve_app.compat.preload`'s business.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from types import ModuleType


class PatchingFinder(importlib.abc.MetaPathFinder):
    """Finds one module as others would, and has it patched once it is loaded."""

    def __init__(self, target: str, patch: Callable[[ModuleType], None]) -> None:
        self._target = target
        self._patch = patch

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._target:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.loader is not None
        load = spec.loader.exec_module

        def loaded(module: ModuleType) -> None:
            load(module)
            self._patch(module)

        spec.loader.exec_module = loaded  # type: ignore[method-assign]
        return spec


def patch_on_import(target: str, patch: Callable[[ModuleType], None]) -> None:
    """Patch the module of this name, now or when it is imported."""
    if target in sys.modules:
        patch(sys.modules[target])
    else:
        sys.meta_path.insert(0, PatchingFinder(target, patch))
