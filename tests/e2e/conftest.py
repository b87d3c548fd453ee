"""One stack for all of these tests, started the way `make serve` starts it; it is gone before others begin."""

from __future__ import annotations

import base64
import io
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import openai
import pytest
from PIL import Image

from tests.support.collector import Collector, collecting
from tests.support.service import Service, running_service, with_adapters, with_sections

HERE = Path(__file__).parent
TEXT = "lfm2-demo"
VISION = "lfm2-vl-demo"


@pytest.fixture(scope="package")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the text model looks for adapters."""
    if "SERVE_APP_TEST_URL" in os.environ:
        pytest.skip("that service looks elsewhere")
    folder = tmp_path_factory.mktemp("models") / "adapters"
    folder.mkdir()
    return folder


@pytest.fixture(scope="package")
def collector() -> Iterator[Collector]:
    """Where the service sends its traces, of those requests alone whose client says so."""
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="package")
def service(
    request: pytest.FixtureRequest, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Where it listens; SERVE_APP_TEST_URL points at one that runs already."""
    if url := os.environ.get("SERVE_APP_TEST_URL"):
        yield Service(url)
        return
    folder = tmp_path_factory.mktemp("config")
    config = with_adapters(HERE / "service.yaml", request.getfixturevalue("adapters"), folder)
    told = {"tracing": {"endpoint": collector.url, "sample": 0}, "logging": {"format": "json"}}
    config = with_sections(config, folder, **told)
    with running_service(config, start_timeout_s=300) as started:
        yield started


@pytest.fixture(scope="package")
def client(service: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=120)


@pytest.fixture(scope="package")
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=120) as session:
        yield session


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    """An encoded image of one colour."""

    def paint(colour: str | tuple[int, int, int], size: tuple[int, int] = (96, 64), kind: str = "PNG") -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", size, colour).save(buffer, kind)
        return buffer.getvalue()

    return paint


def data_url(image: bytes) -> str:
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


@pytest.fixture(scope="session")
def image_host(picture: Callable[..., bytes]) -> Iterator[str]:
    """A web server with /red.png, /blue.jpg, /redirect, /missing, /slow and /text."""
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/redirect":
                self.send_response(302)
                self.send_header("Location", "/red.png")
                self.end_headers()
                return
            if self.path == "/slow":
                stop.wait(20)
            pages = {"/red.png": picture("red"), "/blue.jpg": picture("blue", kind="JPEG"), "/text": b"no image"}
            if (body := pages.get(self.path)) is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    stop.set()
    server.shutdown()
