"""What the schema accepts, and that all that is wrong is told in one go."""

from __future__ import annotations

import pickle
import typing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from serve_app.app import build
from serve_app.config.api_keys import WrittenOut
from serve_app.config.errors import ConfigError
from serve_app.config.schema import ModelConfig, ServiceConfig
from tests.support.configs import CONFIGS, application, problems, written


def models(folder: Path, *entries: dict[str, Any]) -> dict[str, str]:
    found = problems(written(folder, application(*entries)))
    return {where.removeprefix("applications[0].args."): text for where, text in found.items()}


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    found = models(
        tmp_path,
        {"id": "LFM2-1.2B", "sampling": {"temperature": 5}},
        {"id": "LFM2-VL-1.6B", "autoscaling": {"max_replicas": 2, "max_replica": 4}},
        {"id": "other", "gpus": 1.5},
    )
    assert found.keys() == {
        "models[0].sampling.temperature",
        "models[1].autoscaling.max_replica",
        "models[2].gpus",
    }
    assert "`max_replicas`" in found["models[1].autoscaling.max_replica"]


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"gpus": 1, "replicas_per_gpu": 2}, "keep one"),
        ({"replicas": 2, "autoscaling": {"max_replicas": 2}}, "keep one"),
        ({"simulated": {}}, "simulated"),
    ],
)
def test_contradictions_in_a_model(tmp_path: Path, entry: dict[str, Any], text: str) -> None:
    assert text in models(tmp_path, {"id": "other", **entry})["models[0]"]


def test_a_batch_directory_is_the_same_for_every_process(tmp_path: Path) -> None:
    args = {"models": [{"id": "other"}], "batch": {"directory": "data"}}
    assert "from / or ~" in problems(written(tmp_path, application(args=args)))["applications[0].args.batch.directory"]


def test_bounds_that_cross(tmp_path: Path) -> None:
    found = models(tmp_path, {"id": "other", "autoscaling": {"min_replicas": 3, "max_replicas": 2}})
    assert "above max_replicas" in found["models[0].autoscaling"]


def test_names_are_unique(tmp_path: Path) -> None:
    assert "'b'" in models(tmp_path, {"id": "a", "aliases": ["b"]}, {"id": "b"})["models"]


def told_of(args: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        ServiceConfig.parse(args)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({"modls": []}, "modls: unknown key; did you mean `models`?"),
        (
            {"models": [{"id": "a"}], "ingress": {"api_key": []}},
            "ingress.api_key: unknown key; did you mean `api_keys`?",
        ),
        (
            {"models": [{"id": "a"}], "images": {"zzz": 1}},
            "images.zzz: unknown key; known are allow_private_addresses, allowed_domains, fetch_timeout_s, "
            "max_megapixels, max_mib",
        ),
        ({"models": []}, "models: needs at least 1 entry"),
        ({}, "models: is required"),
        ({"models": {"id": "a"}}, "models: should be a list"),
        (["models"], "should be a mapping"),
        (None, "should be a mapping, not None"),
    ],
)
def test_what_is_wrong_with_a_service(args: Any, told: str) -> None:
    assert told in told_of(args)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"replica": 2}, "models[1].replica: unknown key; did you mean `replicas`?"),
        (
            {"autoscaling": {"max_replica": 2, "max_replicas": 2}},
            "models[1].autoscaling.max_replica: unknown key; did you mean `max_replicas`?",
        ),
        ({"sampling": {"temprature": 1}}, "models[1].sampling.temprature: unknown key; did you mean `temperature`?"),
        ({"sampling": {"temperature": 3}}, "models[1].sampling.temperature: should be less than or equal to 2, not 3"),
        ({"aliases": "chat"}, "models[1].aliases: should be a list, not 'chat'"),
        ({"memory": 3}, "models[1].memory: should be a mapping, not 3"),
        ({"kind": "txt"}, "models[1].kind: should be 'text', 'vision' or 'embedding', not 'txt'"),
        ({"gpus": 1.5}, "models[1].gpus: 1.5 GPUs a replica: a fraction is below 1, above it is a whole number"),
        (
            {"gpus": 0.5, "replicas_per_gpu": 2},
            "models[1]: gpus and replicas_per_gpu say the same thing twice: keep one",
        ),
        (
            {"replicas": 2, "autoscaling": {"max_replicas": 3}},
            "models[1]: replicas fixes the number that autoscaling would choose: keep one",
        ),
        ({"packing": 9}, "models[1].packing: should be less than or equal to 8, not 9"),
        (
            {"autoscaling": {"min_replicas": 3, "max_replicas": 2}},
            "models[1].autoscaling: min_replicas (3) is above max_replicas (2)",
        ),
        ({"aliases": ["lfm2-demo"]}, "models: the name 'lfm2-demo' is used by 'lfm2-demo' and again by 'some/model'"),
        ({"aliases": ["x", "x"]}, "models: the name 'x' is used by 'some/model' and again by 'some/model'"),
        (
            {"engine_args": {"max_model_length": 1}},
            "models[1].engine_args.max_model_length: unknown key; did you mean `max_model_len`?",
        ),
        (
            {"engine_args": {"max_num_seqs": 1}},
            "models[1].engine_args.max_num_seqs: is set by the service: use max_running",
        ),
        (
            {"engine_args": {"max_num_seq": 1}},
            "models[1].engine_args.max_num_seq: unknown key; did you mean `max_num_seqs`? "
            "It is set by the service: use max_running",
        ),
    ],
)
def test_what_is_wrong_with_a_model(entry: dict[str, Any], told: str) -> None:
    args = {"models": [{"id": "lfm2-demo"}, {"id": "some/model"} | entry]}
    assert told_of(args) == [told]


def test_everything_wrong_is_told_at_once() -> None:
    args = {"models": [{"id": "a", "cpus": -1}, {"id": "b", "engine_args": {"dtipe": 1, "model": 2}}], "ingres": {}}
    assert len(told_of(args)) == 4


@pytest.mark.parametrize(
    "wrong",
    [
        "sk-1",
        {"sk-1": 1},
        ["", "sk-1"],
        [" sk-1"],
        ["sk-1\n"],
        ["sk-1é"],
        ["sha256:sk-1"],
        [{"sk-1": "sk-1"}],
        [["sk-1"]],
    ],
)
def test_values_of_keys_are_not_repeated(wrong: Any) -> None:
    (told,) = told_of({"models": [{"id": "a"}], "ingress": {"api_keys": wrong}})
    assert told.startswith("ingress.api_keys") and "sk-1" not in told


@pytest.mark.parametrize("nothing", ["", " ", "\t", "env:", "env: ", "file:", "sha256:"])
def test_a_key_that_is_nothing_would_open_the_service(nothing: str) -> None:
    (told,) = told_of({"models": [{"id": "a"}], "ingress": {"api_keys": ["good", nothing]}})
    assert told.startswith("ingress.api_keys[1]: ")


def test_a_configuration_holds_no_key() -> None:
    config = ServiceConfig.parse({"models": [{"id": "a"}], "ingress": {"api_keys": ["sk-1", "env:A", "file:/b"]}})
    assert b"sk-1" not in pickle.dumps(config) and "sk-1" not in f"{config!r} {config.model_dump()}"
    assert config.ingress.api_keys[1:] == ("env:A", "file:/b")
    again = pickle.loads(pickle.dumps(config))
    assert isinstance(again.ingress.api_keys[0], WrittenOut)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (["sk-1"], "ingress.keys[0]: should be a mapping"),
        ("sk-1", "ingress.keys: should be a list"),
        ([{"name": "a", "key": ["sk-1"]}], "ingress.keys[0].key: should be a valid string"),
        ([{"name": "a", "key_sha256": "sk-1"}], "ingress.keys[0].key_sha256: sha256: should be followed by 64"),
        ([{"name": "a"}], "ingress.keys[0]: needs one of key and key_sha256"),
        ([{"name": "a b", "key": "sk-1"}], "ingress.keys[0].name: should be up to 64 letters"),
        ([{"name": "a", "key": "sk-1"}, {"name": "a", "key": "sk-2"}], "ingress: two keys have the name 'a'"),
        ([{"name": "a", "key": "sk-1"}, {"name": "b", "key": "sk-1"}], "ingress: keys[0] and keys[1] are the same key"),
        ([{"name": "a", "key": "sk-1", "models": ["b"]}], "ingress.keys[0].models: 'b' is not served: 'a'"),
        ([{"name": "a", "key": "sk-1", "model": ["a"]}], "unknown key; did you mean `models`?"),
    ],
)
def test_what_is_wrong_with_a_named_key_is_told_without_the_key(keys: Any, told: str) -> None:
    (found,) = told_of({"models": [{"id": "a"}], "ingress": {"keys": keys}})
    assert told in found and "sk-1" not in found


def test_a_configuration_holds_no_named_key() -> None:
    config = ServiceConfig.parse({"models": [{"id": "a"}], "ingress": {"keys": [{"name": "a", "key": "sk-1"}]}})
    assert b"sk-1" not in pickle.dumps(config) and "sk-1" not in f"{config!r} {config.model_dump()}"
    assert isinstance(pickle.loads(pickle.dumps(config)).ingress.keys[0].key, WrittenOut)


def test_ray_serves_way_to_the_configuration_tells_the_same() -> None:
    wrong = {"models": [{"id": "a", "replica": 1}]}
    with pytest.raises(ConfigError, match=r"models\[0\]\.replica: unknown key; did you mean `replicas`"):
        ServiceConfig.model_validate(wrong)
    assert build.__annotations__["args"] in (ServiceConfig, "ServiceConfig")


def test_an_error_and_a_configuration_travel_between_processes() -> None:
    with pytest.raises(ConfigError) as caught:
        ServiceConfig.parse({"models": []}, ("applications", 0), "a.yaml")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    config = ServiceConfig.parse({"models": [{"id": "lfm2-demo"}]})
    assert pickle.loads(pickle.dumps(config)) == config == ServiceConfig.model_validate(config.model_dump())


def sections(model: type[BaseModel]) -> set[type[BaseModel]]:
    """A section and all beneath it."""
    found = {model}
    pending: list[Any] = [field.annotation for field in model.model_fields.values()]
    while pending:
        one = pending.pop()
        if isinstance(one, type) and issubclass(one, BaseModel):
            found |= sections(one)
        pending += typing.get_args(one)
    return found


def test_the_reference_tells_every_key() -> None:
    text = (CONFIGS / "README.md").read_text()
    for section in sections(ServiceConfig):
        for name, field in section.model_fields.items():
            meaning = " ".join((field.description or "").split())
            assert any(
                line.startswith(f"| `{name}` |") and line.endswith(f"| {meaning} |") for line in text.splitlines()
            ), f"{section.__name__}.{name} is missing from configs/README.md, or told otherwise there"


def test_a_request_may_be_no_more_than_a_replica_holds(tmp_path: Path) -> None:
    found = models(tmp_path, {"id": "a", "max_running": 4, "max_queued": 2, "max_sequences": 7})
    assert "max_sequences (7)" in found["models[0]"] and "6" in found["models[0]"]
    bounds = [
        ModelConfig.model_validate({"id": "a", "max_queued": 8, **more}).most_sequences
        for more in ({"max_running": 1}, {"max_running": 64}, {"max_sequences": 7}, {"kind": "embedding"})
    ]
    assert bounds == [1, 32, 7, 264]
