"""Where images are fetched from: vLLM's connector as this service registers it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from vllm.exceptions import VLLMValidationError
from vllm.multimodal.media.connector import MEDIA_CONNECTOR_REGISTRY

from serve_app.config.schema import ImageConfig
from serve_app.engine import media


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server on loopback that must not be reached."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.server.reached = True  # type: ignore[attr-defined]
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.reached = False  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    assert not server.reached  # type: ignore[attr-defined]


def refusal(url: str, images: ImageConfig) -> str:
    name = f"test-{id(images)}"
    media.install(name, images)
    connector = MEDIA_CONNECTOR_REGISTRY.load(name, media_io_kwargs=None)
    with pytest.raises(VLLMValidationError) as refused:
        asyncio.run(connector.fetch_image_async(url))
    return str(refused.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_an_allowed_host_inside_the_network_is_not_reached(port: int, host: str) -> None:
    assert "not a public address" in refusal(f"http://{host}:{port}/x.png", ImageConfig(allowed_domains=(host,)))


@pytest.mark.parametrize("url", ["http://localhost:{}/x", "http://0x7f000001:{}/x", "http://user@127.0.0.1:{}/x"])
def test_hosts_that_are_not_listed_are_not_reached(port: int, url: str) -> None:
    images = ImageConfig(allowed_domains=("example.com",), allow_private_addresses=True)
    assert "images are not fetched from" in refusal(url.format(port), images)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://example.com/x", "example.com/x", ""])
def test_other_schemes_are_refused(url: str) -> None:
    assert "http, https or data" in refusal(url, ImageConfig(allowed_domains=("example.com",)))


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "::1", "fe80::1%eth0", "fd00::1", "0.0.0.0"]
)
def test_private_addresses(address: str) -> None:
    with pytest.raises(media.ForbiddenAddress):
        media.refuse_private(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111"])
def test_public_addresses(address: str) -> None:
    media.refuse_private(address)
