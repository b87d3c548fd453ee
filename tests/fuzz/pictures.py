"""Images as nobody should send them, and some as cameras do, in requests of every schema that takes images."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from typing import Any

from PIL import Image

from tests.fuzz.request import Request
from tests.fuzz.seeds import VISION


def _encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, 1 if mode in ("1", "L", "P", "I", "I;16", "F") else None).save(buffer, kind, **options)
    return buffer.getvalue()


def _turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return _encoded("JPEG", exif=exif)


def _animated(kind: str) -> bytes:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue", "green")] * 5
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


@cache
def _bomb(width: int, height: int, whole: bool = True) -> bytes:
    """A PNG of a few KB that claims to be large, and is if `whole`."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(min(width // 8 + 1, 2**16))
    data = b"".join(packer.compress(row) for _ in range(height if whole else 1)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="file:///etc/passwd"/></svg>'
IMAGES: Sequence[Callable[[], bytes]] = (
    lambda: _encoded("PNG"),
    lambda: _encoded("JPEG"),
    lambda: _encoded("WEBP"),
    lambda: _encoded("BMP"),
    lambda: _encoded("GIF"),
    lambda: _encoded("TIFF"),
    lambda: _encoded("ICO"),
    lambda: _encoded("PPM"),
    lambda: _encoded("PNG", size=(1, 1)),
    lambda: _encoded("PNG", size=(1, 10_000)),
    lambda: _encoded("PNG", size=(10_000, 1)),
    lambda: _encoded("PNG", size=(3, 7)),
    lambda: _encoded("JPEG", "CMYK"),
    lambda: _encoded("TIFF", "CMYK"),
    lambda: _encoded("PNG", "P"),
    lambda: _encoded("PNG", "P", transparency=1),
    lambda: _encoded("PNG", "1"),
    lambda: _encoded("TIFF", "I"),
    lambda: _encoded("PNG", "I;16"),
    lambda: _encoded("TIFF", "F"),
    lambda: _encoded("PNG", "LA"),
    lambda: _encoded("PNG", "RGBA"),
    lambda: _encoded("PNG", "L"),
    lambda: _encoded("TIFF", "LAB"),
    *(lambda turn=turn: _turned(turn) for turn in (3, 6, 8, 99)),
    lambda: _animated("GIF"),
    lambda: _animated("WEBP"),
    lambda: _animated("PNG"),
    lambda: _bomb(60_000, 60_000, False),
    lambda: _bomb(2**31 - 1, 2**31 - 1, False),
    lambda: _bomb(20_000, 20_000),
    lambda: _bomb(4_000, 4_000),
    lambda: _bomb(0, 0, False),
    lambda: b"",
    lambda: SVG,
    lambda: b"<!doctype html><html><body>404</body></html>",
    lambda: b"%PDF-1.4",
    lambda: b"\x89PNG\r\n\x1a\n",
    lambda: b"\xff\xd8\xff\xe0",
    lambda: b"GIF89a" + b"\xff" * 20,
    lambda: b"RIFF\xff\xff\xff\xffWEBPVP8 ",
)
KINDS = (
    "image/png",
    "image/jpeg",
    "image/svg+xml",
    "text/html",
    "application/octet-stream",
    "",
    "video/mp4",
    "IMAGE/PNG",
)
URLS = (
    "",
    "data:",
    "data:,",
    "data:image/png",
    "data:image/png;base64",
    "data:image/png;base64,",
    "data:image/png;base64,@",
    "data:image/png;base64,iVBORw0",
    "data:image/png,rawbytes",
    "data:;base64,AAAA",
    "data:image/png;base64,AA AA",
    "x",
    "http://",
    "http:///x",
    "http://[::1",
    "http://127.0.0.1:1/x.png",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "http://169.254.169.254/latest",
    "https://127.0.0.1:99999/",
    "data:image/png;base64,\ud800",
    "\x00",
    "ftp://x/y.png",
    "data:image/png;charset=utf-8;base64,AAAA",
    "data:IMAGE/PNG;BASE64,AAAA",
    "http://user:pw@127.0.0.1/x",
)


def draw(rng: Random) -> Request:
    """A request with one such image, or a few."""
    urls = [_url(rng) for _ in range(rng.choice((1, 1, 1, 2, 3, 5)))]
    return rng.choice((_chat, _chat, _responses, _messages))(urls)


def _url(rng: Random) -> str:
    if rng.random() < 0.2:
        return rng.choice(URLS)
    data = rng.choice(IMAGES)()
    damage = rng.random()
    if data and damage < 0.25:
        data = data[: rng.randrange(len(data))]
    elif data and damage < 0.45:
        at = rng.randrange(len(data))
        data = data[:at] + rng.randbytes(4) + data[at + 4 :]
    return f"data:{rng.choice(KINDS)};base64,{base64.b64encode(data).decode()}"


def _chat(urls: list[str]) -> Request:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls] + [
        {"type": "text", "text": "Which colour?"}
    ]
    return _asking("/v1/chat/completions", messages=[{"role": "user", "content": parts}], max_tokens=4)


def _responses(urls: list[str]) -> Request:
    parts = [{"type": "input_image", "image_url": url, "detail": "auto"} for url in urls]
    content = [*parts, {"type": "input_text", "text": "Which colour?"}]
    return _asking("/v1/responses", input=[{"role": "user", "content": content}], max_output_tokens=4)


def _messages(urls: list[str]) -> Request:
    sources = []
    for url in urls:
        kind, comma, data = url.removeprefix("data:").partition(";base64,")
        base = {"type": "base64", "media_type": kind, "data": data}
        sources.append(base if comma else {"type": "url", "url": url})
    parts = [{"type": "image", "source": source} for source in sources] + [{"type": "text", "text": "Which colour?"}]
    return _asking("/v1/messages", messages=[{"role": "user", "content": parts}], max_tokens=4)


def _asking(path: str, **body: Any) -> Request:
    return Request("POST", path, {"model": VISION, **body})
