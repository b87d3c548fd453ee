"""What the scenarios ask, and how requests are shared out."""

from __future__ import annotations

import base64
import io
import json
from random import Random
from typing import Any

import pytest
from PIL import Image

from loadtests.arguments import BadSpec
from loadtests.loadgen import images, scenarios
from loadtests.loadgen.lengths import parse as lengths
from loadtests.loadgen.prompts import Prose
from loadtests.loadgen.scenarios import ScenarioMix, ScenarioSettings
from loadtests.loadgen.session import ProcessShare
from loadtests.loadgen.traffic import parse as traffic

ONE = {"m": 1.0}


def settings(**changed: Any) -> ScenarioSettings:
    base: dict[str, Any] = {"lengths": lengths("fixed:prompt=100,output=20"), "prose": Prose(1, 4.0)}
    return ScenarioSettings(**(base | changed))


def asked(name: str, count: int, **changed: Any) -> list[dict[str, Any]]:
    mix = ScenarioMix({name: 1}, settings(**changed), ONE)
    return [json.loads(mix.next(Random(i), i).body) for i in range(count)]


def test_chats_have_the_wanted_lengths_and_nothing_in_common() -> None:
    bodies = asked("chat", 50)
    prompts = [body["messages"][0]["content"] for body in bodies]
    assert {len(prompt) for prompt in prompts} == {400}
    assert len({prompt[:20] for prompt in prompts}) == 50
    assert all(body["max_tokens"] == 20 and body["stream"] and body["model"] == "m" for body in bodies)
    assert bodies[0]["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("name", scenarios.SCENARIOS)
def test_the_same_seed_asks_the_same(name: str) -> None:
    assert asked(name, 3) == asked(name, 3)


def test_a_shared_prefix_is_one_of_a_few() -> None:
    bodies = asked("shared-prefix", 60, prefix_groups=3, prefix_tokens=50)
    systems = {body["messages"][0]["content"] for body in bodies}
    assert len(systems) == 3 and {len(one) for one in systems} == {200}
    assert len({body["messages"][1]["content"] for body in bodies}) == 60


def test_batch_requests_are_long_and_not_streamed() -> None:
    [body] = asked("batch", 1)
    assert body["max_tokens"] == 80 and not body["stream"] and "stream_options" not in body


def test_more_of_a_body_can_be_said() -> None:
    [body] = asked("chat", 1, extra_body={"temperature": 0, "ignore_eos": False}, stream=False)
    assert (body["temperature"], body["ignore_eos"], body["stream"]) == (0, False, False)


def test_a_conversation_grows_under_one_session_until_its_last_turn() -> None:
    mix = ScenarioMix({"conversation": 1}, settings(turns=3), ONE)
    sessions, histories = [], []
    for i in range(4):
        request = mix.next(Random(i), i)
        assert request.on_text is not None
        sessions.append(request.session)
        histories.append([one["role"] for one in json.loads(request.body)["messages"]])
        request.on_text(f"answer {i}")
    turn = ["user", "assistant"]
    assert histories == [["user"], [*turn, "user"], [*turn, *turn, "user"], ["user"]]
    assert sessions[0] == sessions[1] == sessions[2] != sessions[3]


def test_a_conversation_ends_with_an_answer_that_failed() -> None:
    mix = ScenarioMix({"conversation": 1}, settings(), ONE)
    first = mix.next(Random(1), 1)
    assert first.on_text is not None
    first.on_text(None)
    assert len(json.loads(mix.next(Random(2), 2).body)["messages"]) == 1


def test_images_come_in_every_size_and_both_kinds() -> None:
    bodies = asked("vision", 16, image_sizes=((32, 32), (48, 64)))
    found = set()
    for body in bodies:
        image, text = body["messages"][0]["content"]
        head, data = image["image_url"]["url"].split(",", 1)
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            found.add((head, picture.format, picture.size))
        assert text["type"] == "text" and len(text["text"]) == 400
    kinds = (("data:image/png;base64", "PNG"), ("data:image/jpeg;base64", "JPEG"))
    assert found == {(head, kind, size) for head, kind in kinds for size in ((32, 32), (48, 64))}


def test_scenarios_come_by_their_weights() -> None:
    mix = ScenarioMix(scenarios.weights("chat:3,batch"), settings(), ONE)
    names = [mix.next(Random(i), i).scenario for i in range(400)]
    assert names.count("chat") == pytest.approx(300, abs=50)


def test_models_come_by_their_weights() -> None:
    mix = ScenarioMix({"chat": 1, "shared-prefix": 1}, settings(), scenarios.models("base:3,org/adapter"))
    requests = [mix.next(Random(i), i) for i in range(800)]
    assert all(json.loads(one.body)["model"] == one.model for one in requests)
    assert [one.model for one in requests].count("base") == pytest.approx(600, abs=70)
    asked = {(one.model, one.scenario) for one in requests}
    assert asked == {(model, name) for model in ("base", "org/adapter") for name in ("chat", "shared-prefix")}


def test_a_conversation_stays_with_its_model() -> None:
    mix = ScenarioMix({"conversation": 1}, settings(turns=3), {"base": 1, "adapter": 1})
    of: dict[str | None, str] = {}
    for i in range(60):
        request = mix.next(Random(i), i)
        assert of.setdefault(request.session, request.model) == request.model
        assert request.on_text is not None
        request.on_text("said")
    assert len(of) < 30 and set(of.values()) == {"base", "adapter"}


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("m", {"m": 1}),
        ("a:3, b:0.5,c", {"a": 3, "b": 0.5, "c": 1}),
        ("llama3:latest:2", {"llama3:latest": 2}),
        ("llama3:latest", {"llama3:latest": 1}),
        ("org/a-1:1e2", {"org/a-1": 100}),
    ],
)
def test_models_are_read_with_their_weights(text: str, read: dict[str, float]) -> None:
    assert scenarios.models(text) == read


@pytest.mark.parametrize(
    ("text", "said"), [("", "empty"), ("a:0", "above 0"), ("a,a:2", "twice"), ("a:1e9e", "number")]
)
def test_models_that_cannot_be_read_say_why(text: str, said: str) -> None:
    with pytest.raises(BadSpec, match=said):
        scenarios.models(text)


@pytest.mark.parametrize("text", ["chta", "chat:0", "chat:much", ""])
def test_scenarios_that_cannot_be_read_say_why(text: str) -> None:
    with pytest.raises(BadSpec, match="chat"):
        scenarios.weights(text)


@pytest.mark.parametrize("text", ["", "12x", "0x5", "big"])
def test_image_sizes_that_cannot_be_read_say_why(text: str) -> None:
    with pytest.raises(BadSpec, match="image sizes"):
        images.sizes(text)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers_share_all_arrivals_and_none_twice(workers: int) -> None:
    shape = traffic("spike:base=5,peak=50,at=5,for=5,duration=20")
    shares = [list(ProcessShare(i, workers, 0.0).arrivals(shape, seed=7)) for i in range(workers)]
    assert sorted(one for share in shares for one in share) == list(enumerate(shape.arrivals(Random(7))))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
