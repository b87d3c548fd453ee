"""Headless Chromium on a page of the service: what it asks for, and what it complains of."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import ConsoleMessage, Page, sync_playwright

PHONE = (390, 844)
DESK = (1280, 800)


@dataclass
class Seen:
    """What a browser did and said while it had a page open."""

    hosts: set[str] = field(default_factory=set)
    """To which it sent requests."""
    complaints: list[str] = field(default_factory=list)
    """Errors on its console, breaches of the page's Content-Security-Policy among them, and exceptions."""
    refused: list[str] = field(default_factory=list)
    """Paths that were answered with an error."""


@contextlib.contextmanager
def browser_page(size: tuple[int, int] = DESK, *, dark: bool = False) -> Iterator[tuple[Page, Seen]]:
    """A new page in a window of this size. Raises RuntimeError where there is no Chromium."""
    if (chromium := shutil.which("chromium")) is None:
        raise RuntimeError("no `chromium` on PATH, which Debian's package of that name has: `make test` installs it")
    seen = Seen()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        width, height = size
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        page = context.new_page()
        page.on("request", lambda request: seen.hosts.add(urlsplit(request.url).netloc))
        page.on("response", lambda one: seen.refused.append(urlsplit(one.url).path) if one.status >= 400 else None)
        page.on("console", lambda said: seen.complaints.append(said.text) if _complains(said) else None)
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        yield page, seen
        browser.close()


def _complains(said: ConsoleMessage) -> bool:
    """Whether it is an error, and not the line that Chromium writes about each answer that is one."""
    return said.type == "error" and not said.text.startswith("Failed to load resource: the server responded")
