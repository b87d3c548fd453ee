"""Images in a conversation, as OpenAI's schema carries them: data URLs."""

from __future__ import annotations

import base64
import io
import mimetypes
from collections.abc import Iterable
from pathlib import Path
from typing import Any

IMAGE_PARTS = ("image", "image_pil", "image_url", "input_image")
_REMOTE = ("http://", "https://", "data:")


def with_data_urls(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversation with every image that is an object or a file of this machine put in; URLs stay."""
    return [
        turn if not isinstance(turn.get("content"), list) else {**turn, "content": [*map(_part, turn["content"])]}
        for turn in messages
    ]


def has_image(messages: Iterable[dict[str, Any]]) -> bool:
    """Whether any of the conversation's parts is an image."""
    return any(
        isinstance(part, dict) and part.get("type") in IMAGE_PARTS
        for turn in messages
        if isinstance(turn.get("content"), list)
        for part in turn["content"]
    )


def data_url(image: Any) -> str:
    """A PIL image, a path or a URL as a URL. Raises OSError for a file that cannot be read."""
    if isinstance(image, str) and image.startswith(_REMOTE):
        return image
    if isinstance(image, str | Path):
        path = Path(str(image).removeprefix("file://"))
        kind, data = mimetypes.guess_type(path.name)[0] or "image/png", path.read_bytes()
    elif hasattr(image, "save"):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        kind, data = "image/png", buffer.getvalue()
    else:
        raise TypeError(f"an image is a PIL image, a path or a URL, not {type(image).__name__}")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _part(part: Any) -> Any:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("image", "image_pil"):
        return {"type": "image_url", "image_url": {"url": data_url(part[kind])}}
    if kind == "image_url":
        given = part["image_url"]
        more = dict(given) if isinstance(given, dict) else {"url": given}
        return {**part, "image_url": {**more, "url": data_url(more["url"])}}
    return part
