"""The adapters that a model has at present, in its entry, in its directory and by request."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.adapters.adapter import Adapter
from serve_app.adapters.directory import AdapterDirectory, version
from serve_app.config.schema import ModelConfig, ServiceConfig
from serve_app.planning.resolve import resolve
from tests.support.adapters import DEMO, configured, copied


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "adapters").mkdir()
    return tmp_path / "adapters"


def model(root: Path, id: str = "lfm2-demo", **adapters: object) -> ModelConfig:
    entry = {"id": id, "gpus": 0, "adapters": {"directory": str(root), **adapters}}
    return resolve(ServiceConfig.parse({"models": [entry]})).config.models[0]


def usable(directory: AdapterDirectory) -> dict[str, Adapter]:
    return {one.id: one for one in directory.look() if one.wrong is None}


def test_folders_come_change_and_go(root: Path) -> None:
    directory = AdapterDirectory(model(root))
    assert not directory.look()
    copied(root / "kettle")
    (root / "notes").mkdir()
    (root / "a\nb").mkdir()
    first = usable(directory)["kettle"]
    assert (first.source, usable(directory)) == (str(root / "kettle"), {"kettle": first})
    configured(root / "kettle", lora_alpha=4)
    changed = usable(directory)["kettle"]
    assert changed != first, "an engine must not take one for the other"
    assert changed.version == version(root / "kettle")
    configured(root / "kettle", r=512)
    (broken,) = directory.look()
    assert "its rank is 512" in str(broken.wrong)
    (root / "kettle").rename(root.parent / "kettle")
    assert not directory.look()


def test_a_list_goes_before_the_directory(root: Path) -> None:
    copied(root / "kettle")
    listed = {"id": "kettle", "source": "package:demo/adapters/capitals", "sampling": {"temperature": 0}}
    hub = {"id": "hub", "source": "org/adapter"}
    found = usable(AdapterDirectory(model(root, list=[listed, hub])))
    assert (found["kettle"].source, found["kettle"].sampling) == (listed["source"], (("temperature", 0.0),))
    assert found["hub"] == Adapter("hub", "org/adapter")


def test_what_is_loaded_and_unloaded_is_known_to_whoever_looks_later(root: Path) -> None:
    copied(root / "kettle")
    copied(root / "more" / "deeper", "capitals")
    directory = AdapterDirectory(model(root))
    folder = directory.below("more/deeper")
    assert folder is not None
    directory.load("loud", folder)
    directory.unload("kettle")
    later = AdapterDirectory(model(root))
    assert usable(later) == {"loud": later.as_found("loud", folder)}
    kettle = later.below(str(root / "kettle"))
    assert kettle is not None
    later.load("kettle", kettle)
    later.unload("loud")
    assert set(usable(directory)) == {"kettle"}
    other = AdapterDirectory(model(root, "other"))
    assert set(usable(other)) == {"kettle"}, "what one model unloads is the others' still"


def test_nothing_leads_out_of_the_directory(root: Path) -> None:
    outside = copied(root.parent / "outside")
    (root / "link").symlink_to(outside)
    copied(root / "partly")
    (root / "partly" / "adapter_model.safetensors").unlink()
    (root / "partly" / "adapter_model.safetensors").symlink_to(outside / "adapter_model.safetensors")
    (root / "alias").symlink_to(copied(root / "kettle"))
    directory = AdapterDirectory(model(root))
    for path in ("link", "partly", "../outside", str(outside), str(DEMO / "kettle"), "kettle/../../outside", "\0"):
        assert directory.below(path) is None, path
    assert directory.below("alias") == directory.below(str(root / "kettle")) == root / "kettle"
    wrong = {one.id: one.wrong for one in directory.look()}
    assert wrong["kettle"] is None and wrong["alias"] is None
    assert "outside of" in str(wrong["link"]) and "outside of" in str(wrong["partly"])


def test_a_record_that_cannot_be_read_is_none(root: Path) -> None:
    copied(root / "kettle")
    for text in ("", "[]", '{"lfm2-demo": 1}', '{"lfm2-demo": {"loaded": []}}'):
        (root / ".serve-app-adapters.json").write_text(text)
        assert set(usable(AdapterDirectory(model(root)))) == {"kettle"}
