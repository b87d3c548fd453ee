"""Lets torchvision, torchaudio and torchcodec built for CUDA import beside a CPU-only torch.

PyPI has only CUDA builds of the three, and their shared libraries do not load there. LFM2-VL needs torchvision's
Python parts alone. `_tv_cpu_shim.pth` asks `find` whenever one of the modules below is imported first; where the
packages' own libraries load, nothing is changed.
"""

import contextlib
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


def find(name: str, path: Any) -> ModuleSpec | None:
    """An import hook's `find_spec`; None leaves the import to the ordinary finders."""
    if name == "torchvision._meta_registrations":
        extension = sys.modules.get("torchvision.extension")
        if extension is not None and not extension._has_ops():
            _define_missing_operators()
        return None
    spec = PathFinder.find_spec(name, path)
    if spec is None or spec.loader is None:
        return None
    run = spec.loader.exec_module
    after = _run_torchcodec if name == "torchcodec" else _run_torchaudio
    spec.loader.exec_module = lambda module: after(run, module)  # type: ignore[method-assign]
    return spec


def _define_missing_operators() -> None:
    """torchvision registers kernels for these at import and fails if nobody has declared them."""
    from torch import library

    for operator in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):
            library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def _run_torchcodec(run: Any, module: ModuleType) -> None:
    try:
        run(module)
    except (OSError, RuntimeError) as error:
        raise ImportError(f"torchcodec does not load on this torch: {error}") from error


def _run_torchaudio(run: Any, module: ModuleType) -> None:
    run(module)
    load = getattr(module, "_load_lib", None)
    if load is None:
        return

    def load_or_not(library: str) -> bool:
        try:
            return bool(load(library))
        except OSError:
            return False

    module._load_lib = load_or_not  # type: ignore[attr-defined]
