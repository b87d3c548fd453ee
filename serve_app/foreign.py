"""Names of the settings that vLLM and Ray Serve accept, read from their source.

Importing either takes longer than all of `check`; parsing the one file that declares them takes 20 ms.
"""

from __future__ import annotations

import ast
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path


def engine_arguments() -> frozenset[str]:
    """Fields of vLLM's AsyncEngineArgs; empty when vLLM is not installed."""
    return _fields("vllm", "engine/arg_utils.py", "EngineArgs") | _fields(
        "vllm", "engine/arg_utils.py", "AsyncEngineArgs"
    )


def serve_keys(schema: str) -> frozenset[str]:
    """Fields of one of Ray Serve's schemas (`ServeDeploySchema`, ...); empty when Ray is not installed."""
    return _fields("ray", "serve/schema.py", schema)


def _fields(package: str, file: str, cls: str) -> frozenset[str]:
    return _classes(package, file).get(cls, frozenset())


@lru_cache
def _classes(package: str, file: str) -> dict[str, frozenset[str]]:
    """Annotated public names in the body of each class of a file; nothing when there is no such file."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return {}
    path = Path(spec.origin).parent / file
    if not path.exists():
        return {}
    return {
        node.name: frozenset(
            line.target.id
            for line in node.body
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.target.id[0] != "_"
        )
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }
