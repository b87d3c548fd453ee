"""The written configuration is right, holds the numbers, and keeps what it does not change."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from loadtests.bench.peers.configured import ConfiguredModel
from loadtests.planner.tuning.derive import Number
from loadtests.planner.tuning.write import Place, tuned
from serve_app.cli import main

CONFIGS = Path(__file__).parents[5] / "configs"
NUMBERS = [
    Number("max_queued", 6, "4.5 requests/s x 1.4 s"),
    Number("autoscaling.min_replicas", 1, "lowest rate"),
    Number("autoscaling.max_replicas", 4, "peak: 12 requests/s"),
    Number("autoscaling.target_load", 0.55, "5 open of 8"),
]
BLOCK = """\
# The head.
http_options: {host: 127.0.0.1, port: 8000}  # on this machine
applications:
  - name: lfm2
    route_prefix: /
    import_path: serve_app.app:build
    args:
      models:
        # The first.
        - id: first
          engine: simulated
          # Many wait.
          max_queued: 99  # too many
          replicas: 3
          simulated:
            startup_s: 2  # slow
          cpus: 0.1  # little

        # The second.
        - {id: second, engine: simulated, autoscaling: {max_replicas: 2, target_kv_usage: 0.7}}  # flow
      ingress: {cpus: 0.1}  # the end
"""


def entry(text: str, index: int) -> dict[str, object]:
    found = yaml.safe_load(text)["applications"][0]["args"]["models"][index]
    assert isinstance(found, dict)
    return found


def test_changes_a_block_entry_and_keeps_all_else() -> None:
    text = tuned(BLOCK, Place(0, 0), NUMBERS, ["Tuned."])
    found = entry(text, 0)
    assert found["max_queued"] == 6
    assert found["autoscaling"] == {"min_replicas": 1, "max_replicas": 4, "target_load": 0.55}
    assert found["simulated"] == {"startup_s": 2}
    assert "replicas" not in found
    assert entry(text, 1) == entry(BLOCK, 1)
    kept = ("# The head.", "# The first.", "# Many wait.", "# slow", "# little", "# The second.", "# flow", "# the end")
    assert [word for word in kept if word not in text] == []
    assert text.startswith("# Tuned.\n# The head.")
    assert "# 4.5 requests/s x 1.4 s\n          max_queued: 6" in text


def test_changes_a_flow_entry_and_keeps_what_its_section_held() -> None:
    text = tuned(BLOCK, Place(0, 1), NUMBERS, [])
    assert entry(text, 0) == entry(BLOCK, 0)
    scaling = {"min_replicas": 1, "max_replicas": 4, "target_load": 0.55, "target_kv_usage": 0.7}
    assert entry(text, 1) == {"id": "second", "engine": "simulated", "max_queued": 6, "autoscaling": scaling}
    assert "# flow" in text
    assert "# the end" in text


def test_writing_twice_replaces_the_numbers() -> None:
    once = tuned(BLOCK, Place(0, 0), NUMBERS, [])
    twice = tuned(once, Place(0, 0), [Number("max_queued", 7, "again"), NUMBERS[2]], [])
    assert entry(twice, 0)["max_queued"] == 7
    assert entry(twice, 0)["autoscaling"] == {"min_replicas": 1, "max_replicas": 4, "target_load": 0.55}


@pytest.mark.parametrize(
    ("config", "model"),
    [
        ("demo.yaml", "lfm2-demo"),
        ("demo.yaml", "lfm2-vl-demo"),
        ("lfm2-1gpu.yaml", "LFM2-1.2B"),
        ("lfm2-cluster.yaml", "LFM2-1.2B"),
        ("lfm2-packed.yaml", "LFM2-1.2B"),
    ],
)
def test_every_configuration_can_be_tuned_and_passes_check(config: str, model: str, tmp_path: Path) -> None:
    source = ConfiguredModel.find(CONFIGS / config, model)
    text = tuned(source.path.read_text(), Place(source.application, source.entry), NUMBERS, ["Tuned."])
    path = tmp_path / "tuned.yaml"
    path.write_text(text)
    assert main(["check", str(path)]) == 0
    written = ConfiguredModel.find(path, model).model
    assert written.max_queued == 6
    assert written.autoscaling is not None
    assert written.autoscaling.target_load == 0.55
    comments = [line for line in source.path.read_text().splitlines() if line.startswith("#")]
    assert all(line in text for line in comments)
