"""`serve-app key new`: what it prints can be used as it is."""

from __future__ import annotations

import pytest
import yaml

from serve_app import cli
from serve_app.config.api_keys import digest_of
from serve_app.config.keys import KeyConfig


def test_a_new_key_and_its_entry_belong_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["key", "new", "search-team"]) == 0
    first, entry = capsys.readouterr().out.split("entry, for the configuration:\n")
    key = KeyConfig.model_validate(yaml.safe_load(entry)["ingress"]["keys"][0])
    assert key.name == "search-team" and key.entry == digest_of(first.split()[-1])
    cli.main(["key", "new", "search-team"])
    assert first not in capsys.readouterr().out


def test_a_name_that_metrics_cannot_carry_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["key", "new", 'a"b']) == 2
    assert "letters" in capsys.readouterr().err
