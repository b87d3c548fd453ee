"""What the console keeps of the last minutes."""

from __future__ import annotations

from serve_app.console.exposed import Grown
from serve_app.console.history import KEPT_S, PERCENTILES_OVER, History


def test_requests_are_told_by_what_became_of_them() -> None:
    history = History()
    statuses = {"200": 10.0, "429": 2.0, "503": 1.0, "400": 1.0, "500": 3.0, "502": 1.0, "499": 2.0}
    history.add(1000.0, 2.0, Grown(by_status=statuses, output=50.0), {"queue": 4.0})
    (point,) = history.since(0)
    assert {name: point[name] for name in ("answered", "refused", "failed", "left", "output", "queue")} == {
        "answered": 5.0,
        "refused": 2.0,
        "failed": 2.0,
        "left": 1.0,
        "output": 25.0,
        "queue": 4.0,
    }
    assert point["ttft"] == point["tpot"] == [None, None, None]


def test_percentiles_are_of_the_last_points_and_the_ingress_tells_what_engines_do_not() -> None:
    history = History()
    history.add(0.0, 2.0, Grown(first_byte={0.1: 4.0, 1.0: 4.0}), {})
    for at in range(1, PERCENTILES_OVER + 1):
        history.add(float(at), 2.0, Grown(), {})
    points = history.since(-1)
    assert points[0]["ttft"] == points[PERCENTILES_OVER - 1]["ttft"] == [0.05, 0.095, 0.099]
    assert points[PERCENTILES_OVER]["ttft"] == [None, None, None]
    history.add(99.0, 2.0, Grown(ttft={0.2: 1.0}, first_byte={9.0: 1.0}), {})
    assert history.since(98)[0]["ttft"][0] == 0.1


def test_it_forgets() -> None:
    history = History()
    for at in (0.0, 1.0, KEPT_S + 0.5):
        history.add(at, 1.0, Grown(), {})
    assert [point["at"] for point in history.since(-1)] == [1.0, KEPT_S + 0.5]
    assert [point["at"] for point in history.since(1.0)] == [KEPT_S + 0.5]
