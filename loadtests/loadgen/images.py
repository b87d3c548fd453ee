"""Images for vision requests, made once, before any is sent."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

from loadtests.arguments import BadSpec

if TYPE_CHECKING:
    from PIL.Image import Image

PER_SIZE = 4
"""Different images of each size; half of them PNG, half JPEG."""
MOST_SIDE = 8192


def sizes(text: str) -> tuple[tuple[int, int], ...]:
    """`256,640x480`: width and height in pixels. Raises BadSpec."""
    found = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        width, x, height = word.partition("x")
        try:
            size = int(width), int(height if x else width)
        except ValueError:
            size = 0, 0
        if min(size) < 1:
            raise BadSpec(f"image sizes {text!r}: {word!r} is no size; write 512 or 640x480")
        if max(size) > MOST_SIDE:
            raise BadSpec(f"image sizes {text!r}: {word!r} is above {MOST_SIDE} pixels a side")
        found.append(size)
    if not found:
        raise BadSpec("image sizes: none given; write 512,640x480")
    return tuple(found)


def content_parts(wanted: Sequence[tuple[int, int]], seed: int) -> list[bytes]:
    """Content parts with data URLs, as JSON, sizes in turn."""
    rng = Random(seed)
    return [_part(_paint(rng, size), "PNG" if i % 2 else "JPEG") for i in range(PER_SIZE) for size in wanted]


def _paint(rng: Random, size: tuple[int, int]) -> Image:
    """A smooth image of random colours; compresses about as a photograph does."""
    from PIL import Image

    grain = (max(2, size[0] // 16), max(2, size[1] // 16))
    noise = Image.frombytes("RGB", grain, rng.randbytes(grain[0] * grain[1] * 3))
    return noise.resize(size, Image.Resampling.BILINEAR)


def _part(image: Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"compress_level": 1} if kind == "PNG" else {"quality": 85}))
    url = f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return json.dumps({"type": "image_url", "image_url": {"url": url}}).encode()
