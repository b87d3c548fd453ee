"""What a browser gets of the console."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx
import pytest

from serve_app.console.assets import CHARTS, OWN, Assets
from serve_app.http.pages import starlette_app


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(starlette_app(Assets().routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_all_that_the_page_and_its_scripts_name_is_there(http: httpx.AsyncClient) -> None:
    page = (await http.get("/console")).text
    named = set(re.findall(r'(?:href|src)="console/([^"]+)"', page))
    for name in [name for name in OWN.iterdir() if name.suffix == ".js"]:
        named |= set(re.findall(r'from "\./([^"]+)"', name.read_text(encoding="utf-8")))
    assert named >= set(CHARTS) and "app.js" in named
    for name in named - set(CHARTS):
        answer = await http.get(f"/console/{name}")
        assert answer.status_code == 200, name
        assert answer.headers["content-type"].startswith(("text/", "image/")), name


async def test_every_answer_forbids_other_hosts(http: httpx.AsyncClient) -> None:
    for path in ("/console", "/console/app.js"):
        policy = (await http.get(path)).headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy


async def test_what_has_not_changed_is_not_sent_again(http: httpx.AsyncClient) -> None:
    first = await http.get("/console/app.js")
    again = await http.get("/console/app.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (await http.get("/console/app.js", headers={"if-none-match": '"other"'})).status_code == 200


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fassets.py", "%2e%2e", "index.html%00"])
async def test_nothing_else_is_there(http: httpx.AsyncClient, name: str) -> None:
    assert (await http.get(f"/console/{name}")).status_code == 404


def test_the_page_holds_no_script_or_style_of_its_own() -> None:
    """The policy would keep the browser from running it."""
    page = (OWN / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|https?://", page)
