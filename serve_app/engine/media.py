"""Fetching the images of a request: only from listed hosts, never from inside the network.

vLLM's own connector checks the host's name; this one also refuses every URL unless a host is listed, resolves
the name itself and connects to nothing but the addresses it has judged, and answers failures as the client's
error, which they are.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from PIL.Image import DecompressionBombError
from vllm.connections import HTTPConnection
from vllm.exceptions import VLLMUnprocessableEntityError, VLLMValidationError
from vllm.multimodal.media.connector import MEDIA_CONNECTOR_REGISTRY, MediaConnector

from serve_app.config.schema import ImageConfig

CLIENT_FAULTS = (
    OSError,
    ValueError,
    NotImplementedError,
    TimeoutError,
    aiohttp.ClientError,
    VLLMUnprocessableEntityError,
    DecompressionBombError,
)
"""What goes wrong with an image that the request brought or pointed to."""


class ForbiddenAddress(OSError):
    """The host resolves to an address requests must not reach."""


class PublicResolver(AbstractResolver):
    """Resolves names, and refuses those that lead to loopback, private or link-local addresses."""

    def __init__(self) -> None:
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        results = await self._resolver.resolve(host, port, family)
        for result in results:
            refuse_private(result["host"])
        return results

    async def close(self) -> None:
        await self._resolver.close()


def refuse_private(address: str) -> None:
    """Raise ForbiddenAddress unless the address is a public one."""
    if not ipaddress.ip_address(address.partition("%")[0]).is_global:
        raise ForbiddenAddress(f"{address} is not a public address")


class _Connection(HTTPConnection):
    def __init__(self, images: ImageConfig) -> None:
        super().__init__()
        self._images = images
        self._session: aiohttp.ClientSession | None = None

    async def get_async_client(self) -> aiohttp.ClientSession:
        if self._session is None:
            resolver = None if self._images.allow_private_addresses else PublicResolver()
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=resolver), raise_for_status=_refuse_redirect
            )
        return self._session


async def _refuse_redirect(response: aiohttp.ClientResponse) -> None:
    if 300 <= response.status < 400:
        raise ValueError(f"the server answers with a redirect ({response.status}), which is not followed")
    response.raise_for_status()


def install(name: str, images: ImageConfig) -> None:
    """Offer this module's connector to vLLM as `VLLM_MEDIA_CONNECTOR=name`, in this process."""
    connection = _Connection(images)

    @MEDIA_CONNECTOR_REGISTRY.register(name)
    class GuardedConnector(MediaConnector):
        def __init__(
            self,
            media_io_kwargs: dict[str, dict[str, Any]] | None = None,
            *,
            allowed_local_media_path: str = "",
            allowed_media_domains: list[str] | None = None,
        ) -> None:
            super().__init__(media_io_kwargs, connection, allowed_media_domains=allowed_media_domains)

        async def load_from_url_async(self, url: str, media_io: Any, *, fetch_timeout: int | None = None) -> Any:
            inline = url[:5].lower() == "data:"
            if not inline:
                self._refuse(url)
            try:
                return await super().load_from_url_async(url, media_io, fetch_timeout=fetch_timeout)
            except CLIENT_FAULTS as error:
                failed = "read" if inline else "fetched"
                raise _client_error(f"the image could not be {failed}: {_reason(error)}") from error

        def _refuse(self, url: str) -> None:
            parsed = aiohttp.client.URL(url)
            if parsed.scheme not in ("http", "https") or not parsed.host:
                raise _client_error("an image URL is http, https or data")
            if parsed.host not in images.allowed_domains:
                allowed = ", ".join(images.allowed_domains) or "none; send the image as a data URL"
                raise _client_error(
                    f"images are not fetched from {parsed.host!r}; allowed hosts (images.allowed_domains): {allowed}"
                )
            if not images.allow_private_addresses and _is_address(parsed.host):
                try:
                    refuse_private(parsed.host)
                except ForbiddenAddress as error:
                    raise _client_error(f"the image could not be fetched: {error}") from error


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _client_error(message: str) -> VLLMValidationError:
    return VLLMValidationError(message, parameter="image_url")


def _reason(error: BaseException) -> str:
    """The innermost cause: vLLM and aiohttp wrap it in words of their own."""
    while (cause := error.__cause__ or getattr(error, "os_error", None)) is not None:
        error = cause
    if isinstance(error, TimeoutError):
        return "it did not arrive in time (images.fetch_timeout_s)"
    return str(error) or type(error).__name__
