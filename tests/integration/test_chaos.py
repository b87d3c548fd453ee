"""`serve-app chaos` from end to end, in its small form: what it does, what it counts, what holds for clients."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

STREAMS = 12
FAULTS = ["replica", "controller", "frozen-replica", "redeploy", "haproxy"]
SERVES_OWN_S = 90.0
"""Ray Serve itself takes longer to replace what is frozen."""


def test_parts_of_a_service_are_lost_and_clients_are_told_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtests.chaos", *FAULTS]
    command += ["--streams", str(STREAMS), "--tokens", "150", "--json", str(tmp_path / "out.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    found: dict[str, dict[str, Any]] = {
        one["fault"]: one for one in json.loads((tmp_path / "out.json").read_text())["found"]
    }
    assert list(found) == FAULTS, done.stdout + done.stderr
    assert min(one["streams"] for one in found.values()) >= STREAMS
    assert {one["fault"] for one in found.values() if one["whole_after_s"] is None} == set(), done.stdout
    for fault in ("replica", "controller", "frozen-replica", "redeploy"):
        assert found[fault]["lost"] == 0, done.stdout
    frozen = found["frozen-replica"]
    assert frozen["whole_after_s"] < SERVES_OWN_S / 2
    assert found["haproxy"]["reasons"] == {"the connection was closed": STREAMS}, "each client learns of it, none hangs"
    assert "nothing" in done.stdout and "WHOLE AFTER" in done.stdout
