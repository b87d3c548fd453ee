"""What unit tests of several packages use."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short_path() -> Iterator[Path]:
    """An empty folder for Unix sockets: their paths hold about 100 characters, and `tmp_path` alone may take that."""
    with tempfile.TemporaryDirectory(prefix="test-") as folder:
        yield Path(folder)
