"""Real Ray Serve with simulated engines, one cluster for all of these tests."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.collector import Collector, collecting
from tests.support.service import Service, running_service, stream_to_end, with_batch, with_sections

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def batch_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("batch")


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Where the service sends its traces, of those requests alone whose client says so."""
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="package")
def simulated(
    batch_directory: Path, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("config")
    config = with_batch(HERE / "service.yaml", batch_directory, folder)
    told = {"tracing": {"endpoint": collector.url, "sample": 0}, "logging": {"format": "json"}}
    config = with_sections(config, folder, **told)
    with concurrent.futures.ThreadPoolExecutor() as threads:
        with running_service(config, start_timeout_s=120) as started:
            yield started
            begun = threading.Event()
            last = threads.submit(stream_to_end, started.url, "narrow", 250, begun)
            assert begun.wait(60)
        assert last.result() == 250, "SIGTERM cut an open stream"
