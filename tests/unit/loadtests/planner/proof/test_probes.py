"""Probes of a page that answers, one that does not, and a service that is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from loadtests.planner.proof.probes import Probes


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/cut":
            self.close_connection = True
            return
        self.send_response(200 if self.path == "/health" else 503)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_each_page_is_asked_by_itself_and_every_status_is_an_answer(url: str) -> None:
    with Probes(url, ("/health", "/ready", "/cut"), period_s=0.01) as probes:
        while len({one.page for one in probes.answers}) < 3:
            time.sleep(0.01)
    found = {one.page: one.status for one in probes.answers}
    assert found == {"/health": 200, "/ready": 503, "/cut": None}
    assert all(0 <= one.took_s < 30 and one.at > 1e9 for one in probes.answers)
