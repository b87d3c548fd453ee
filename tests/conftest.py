"""Every test carries the name of its tier, which is the folder it lies in, as a marker: `pytest -m unit`."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
TIERS = ("unit", "integration", "e2e")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(HERE).parts[0]
        if folder not in TIERS:
            raise pytest.UsageError(f"{item.path} lies in none of the tests' folders: {', '.join(TIERS)}")
        item.add_marker(folder)
