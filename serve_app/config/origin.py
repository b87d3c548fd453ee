"""An origin, as browsers name a page's: scheme, host and port."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/\s]+")


def _checked(text: str) -> str:
    if not _ORIGIN.fullmatch(text):
        raise ValueError(f"{text!r} is no origin: write scheme://host or scheme://host:port, without a path, or '*'")
    return text


Origin = Annotated[str, AfterValidator(_checked)]
