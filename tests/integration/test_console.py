"""The console's pages about a running service, in a real browser, on simulated engines."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import browser_page
from tests.support.service import Service, replicas, stream_to_end

expect.set_options(timeout=60_000)


@pytest.fixture
def page(simulated: Service) -> Iterator[Page]:
    with browser_page() as (page, seen):
        page.goto(f"{simulated.url}/console")
        yield page
    assert seen.hosts == {urlsplit(simulated.url).netloc}
    assert not seen.complaints
    assert not [path for path in seen.refused if not path.startswith("/v1/")]


def test_a_scaling_shows_up_with_its_reason(simulated: Service, page: Page) -> None:
    page.get_by_role("link", name="Live").click()
    page.locator(".card", has_text="scaled").click()
    with ThreadPoolExecutor(8) as threads:
        done = [threads.submit(stream_to_end, simulated.url, "scaled", 300, threading.Event()) for _ in range(8)]
        expect(page.locator(".decisions")).to_contain_text("1 → ")
        expect(page.locator(".replica.ready")).not_to_have_count(1)
        assert [one.result() for one in done] == [300] * 8
    assert page.locator(".decisions li span").first.inner_text().endswith(".")
    assert page.locator(".chart canvas").count() == 7, "the chart library is not what the page's digest says"
    points = httpx.get(f"{simulated.url}/console/api/live").json()["models"]["scaled"]["points"]
    assert sum(point["answered"] for point in points) > 0 and sum(point["output"] for point in points) > 0
    assert any(point["ttft"][1] for point in points)


def test_a_load_test_is_started_watched_and_reported(page: Page) -> None:
    page.get_by_role("link", name="Load test").click()
    page.get_by_label("Model").select_option("pair")
    page.get_by_label("Shape").select_option("steady")
    page.get_by_label("duration, s").fill("3")
    page.get_by_role("button", name="Start").click()
    expect(page.locator(".report")).to_contain_text("LLM load test")
    expect(page.get_by_role("button", name="Start")).to_be_visible()
    expect(page.locator(".report")).to_contain_text("0 failed")


def test_one_that_does_not_end_is_stopped(page: Page) -> None:
    page.get_by_role("link", name="Load test").click()
    page.get_by_label("Model").select_option("pair")
    page.get_by_label("duration, s").fill("600")
    page.get_by_role("button", name="Start").click()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Start")).to_be_visible()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "pair", "traffic": "trace:/etc/passwd"}, 400),
        ({"model": "pair", "traffic": "steady:rate=1", "host": "http://10.0.0.1"}, 400),
        ({"model": "pair", "traffic": "steady:rate=1", "slo": "--host http://10.0.0.1"}, 400),
    ],
)
def test_a_load_test_has_no_other_target_and_reads_no_file(simulated: Service, body: dict, status: int) -> None:
    answer = httpx.post(f"{simulated.url}/console/api/load", json=body)
    assert answer.status_code == status and answer.json()["error"]["code"] == "invalid_value"


def test_a_load_test_cannot_be_started_from_another_sites_form(simulated: Service) -> None:
    body = '{"model": "pair", "traffic": "steady:rate=1,duration=1"}'
    answer = httpx.post(f"{simulated.url}/console/api/load", content=body, headers={"content-type": "text/plain"})
    assert answer.status_code == 415


def test_it_makes_way_for_requests(simulated: Service) -> None:
    (process,) = replicas(simulated, "console")
    threads = Path(f"/proc/{process}/task").iterdir()
    assert all(os.getpriority(os.PRIO_PROCESS, int(thread.name)) > 0 for thread in threads)


def test_machines_and_batches_are_shown(page: Page) -> None:
    page.get_by_role("link", name="GPUs").click()
    expect(page.locator(".gpu")).to_contain_text("trio")
    page.get_by_role("link", name="Batches").click()
    expect(page.get_by_role("button", name="New batch")).to_be_visible()
    page.get_by_role("link", name="Usage").click()
    expect(page.locator(".empty")).to_contain_text("ingress.usage")
