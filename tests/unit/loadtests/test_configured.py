"""A model is found in a configuration by any of its names, and without one where it is the only one."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.bench.peers.configured import ConfiguredModel
from serve_app.config.errors import ConfigError

CONFIGS = Path(__file__).parents[3] / "configs"
PACKED = Path(__file__).parents[3] / "loadtests" / "measurements" / "packed.yaml"


@pytest.mark.parametrize("name", ["LiquidAI/LFM2-1.2B", "lfm2-1.2b", ""])
def test_the_only_model_needs_no_name(name: str) -> None:
    assert ConfiguredModel.find(PACKED, name).model.id == "LiquidAI/LFM2-1.2B"


@pytest.mark.parametrize(("name", "said"), [("", "say which of lfm2-demo, lfm2-vl-demo"), ("x", "'x' is not in it")])
def test_a_name_that_says_nothing_is_told_what_there_is(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ConfiguredModel.find(CONFIGS / "demo.yaml", name)
