"""A request as the fuzz suite holds it, until it is written as bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

BOUNDARY = b"fuzz-6f1c"
LONG_NUMBER = "@long-number@"
"""Stands for an integer of more digits than Python writes."""


@dataclass
class Request:
    """One request; what is done to its body as bytes is kept until there are any."""

    method: str
    path: str
    body: Any = None
    """A JSON value; of a form, its fields by name."""
    form: bool = False
    query: dict[str, str] = field(default_factory=dict)
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    content_type: bytes | None = b"application/json"
    damage: list[Callable[[bytes], bytes]] = field(default_factory=list)
    """Done to the body's bytes, in this order."""

    def payload(self) -> bytes:
        """The body's bytes."""
        if self.body is None and not self.damage:
            return b""
        data = multipart(self.body) if self.form else _json(self.body)
        for one in self.damage:
            data = one(data)
        return data

    def wire(self) -> bytes:
        """All of it, as HTTP/1.1 on a connection that is used once."""
        data = self.payload()
        target = self.path + ("?" + "&".join(f"{k}={v}" for k, v in self.query.items()) if self.query else "")
        lines = [b"%b %b HTTP/1.1" % (self.method.encode(), target.encode("utf-8", "surrogatepass"))]
        lines += [b"host: fuzz", b"connection: close"]
        if self.content_type is not None and (data or self.method == "POST"):
            kind = b"multipart/form-data; boundary=" + BOUNDARY if self.form else self.content_type
            lines.append(b"content-type: " + kind)
        if not any(name.lower() == b"transfer-encoding" for name, _ in self.headers):
            lines.append(b"content-length: %d" % len(data))
        else:
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
        lines += [b"%b: %b" % header for header in self.headers]
        return b"\r\n".join(lines) + b"\r\n\r\n" + data

    def __str__(self) -> str:
        text = repr(self.wire())[2:-1]
        return text if len(text) < 3000 else f"{text[:1500]} ... {len(text)} characters ... {text[-1000:]}"


def multipart(fields: Any) -> bytes:
    """A form; a value that is a list is a file's name and contents."""
    if not isinstance(fields, dict):
        return _json(fields)
    parts = []
    for name, value in fields.items():
        about, data = _part(str(name), value)
        parts.append(b"--%b\r\ncontent-disposition: form-data; %b\r\n\r\n%b\r\n" % (BOUNDARY, about, data))
    return b"".join(parts) + b"--%b--\r\n" % BOUNDARY


def _part(name: str, value: Any) -> tuple[bytes, bytes]:
    about = f'name="{name}"'
    if isinstance(value, list) and len(value) == 2:
        about, value = f'{about}; filename="{value[0]}"', value[1]
    text = value if isinstance(value, str) else json.dumps(value)
    return about.encode("utf-8", "surrogatepass"), text.encode("utf-8", "surrogatepass")


def _json(value: Any) -> bytes:
    return json.dumps(value).replace(f'"{LONG_NUMBER}"', "9" * 5000).encode()
