"""How long a rate is offered, and who is asked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loadtests.loadgen import locust_run
from loadtests.planner.tuning.measure import RequestSpec, ServiceUnderTest, step_seconds
from loadtests.results.slo import Slo


def test_slow_rates_are_offered_for_longer_within_a_bound() -> None:
    assert step_seconds(10.0, 8.0) == 8.0
    assert step_seconds(4.0, 8.0) == 10.0
    assert step_seconds(0.5, 8.0) == 24.0


@pytest.mark.parametrize(("asked", "named"), [("", "m"), ("m:3,adapter:1", "m:3,adapter:1")])
def test_requests_name_the_model_or_what_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: str, named: str
) -> None:
    seen = []

    def run(url: str, model: str, *_: Any, **options: Any) -> list[Any]:
        seen.append(model)
        return []

    monkeypatch.setattr(locust_run, "run", run)
    spec = RequestSpec("m", "fixed:prompt=1,output=1", "chat", 1, Slo.parse("e2e=1s"), asked=asked)
    service: Any = SimpleNamespace(peer=SimpleNamespace(url="http://x"))
    ServiceUnderTest(service, spec, tmp_path)._run(1, 1.0, tmp_path / "r")
    assert seen == [named]
