"""The ingress starts in a second, on nodes without vLLM or torch."""

from __future__ import annotations

import subprocess
import sys


def test_composing_the_service_imports_neither_vllm_nor_torch() -> None:
    check = "import sys, serve_app.app; sys.exit(any(m in sys.modules for m in ('vllm', 'torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
