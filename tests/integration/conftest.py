"""Real Ray Serve with simulated engines, one cluster for the session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.service import Service, running_service

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def simulated() -> Iterator[Service]:
    with running_service(HERE / "service.yaml", start_timeout_s=120) as started:
        yield started
