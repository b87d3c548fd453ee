"""The documents name files that exist and commands that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from serve_app.cli import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "configs/README.md", ROOT / "loadtests/README.md", *(ROOT / "docs").glob("*.md")]
)
FRONT_PAGE_LINES = 150
ROOMS = ("serve_app", "loadtests", "tests", "configs", "docs", "tools")


def named(page: Path) -> set[str]:
    return set(re.findall(r"`([a-z_]+/[\w/]*(?:\.py|\.yaml|\.md)?)`", page.read_text(encoding="utf-8")))


def within(text: str) -> bool:
    """Whether a path is there, from the root or, as it is written beside a longer one, from a room's folder."""
    return any((base / text).exists() for base in (ROOT, ROOT / "serve_app", ROOT / "serve_app/batch"))


def test_every_path_that_the_architecture_names_exists() -> None:
    paths = named(ROOT / "docs/architecture.md")
    assert len(paths) > 40
    assert not [one for one in sorted(paths) if not within(one)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[\w-]*)?\)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_is_one(page: Path) -> None:
    assert set(re.findall(r"(?<![-\w])serve-app ([a-z]\w*)", page.read_text(encoding="utf-8"))) <= COMMANDS.keys()


def test_the_front_page_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= FRONT_PAGE_LINES
