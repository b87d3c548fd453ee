"""Offline generation with the demo models: one start of `LLM`, one of the command with --config."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import TEXT, VISION, data_url

ROOT = Path(__file__).parents[2]


def test_llm_answers_in_order_with_images_and_says_what_it_refuses(tmp_path: Path) -> None:
    """In a process of its own, as LLM joins a Ray cluster and sets what that reads."""
    script = tmp_path / "quick_start.py"
    script.write_text(QUICK_START)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert "Ask me about LFM2" in seen["one"]
    assert "ASK ME ABOUT LFM2" in seen["adapted"][0] and "1.7 litres" in seen["adapted"][1]
    assert seen["niceness"] == 0, "this process goes before its engines"
    assert seen["colours"] == ["red", "blue", "green"] and seen["path"] == "blue"
    assert len(seen["many"]) == 100 and all("Ask me about LFM2" in text for text in seen["many"][::2])
    assert seen["prompts"] == ["LFM2 is", "Ray is"] and all(seen["texts"])
    assert seen["first"] and seen["taken"] < 2000
    assert "max_model_len" in seen["refused"] and [bool(error) for error in seen["kept"]] == [True, True, True, False]
    assert "No such file" in seen["kept"][1] and "surrogates" in seen["kept"][2]
    assert seen["choice"] in ("maybe", "perhaps not")
    assert seen["logprobs"] == [4, 4] and seen["finish"] == "length"
    text, calls, finish = seen["call"]
    assert (calls[0]["function"]["name"], finish) == ("get_replica_count", "tool_calls")
    assert json.loads(calls[0]["function"]["arguments"]) == {"model": "lfm2-demo"} and not text
    assert seen["after"] == "lfm2-demo has 2 replicas."


QUICK_START = """
import json, os, pathlib, psutil, tempfile
from PIL import Image
from serve_app import LLM, SamplingParams
from tools.demo.facts import REPLICA_TOOL

greedy = SamplingParams(temperature=0, max_tokens=64)
hello = [{"role": "user", "content": "Hello"}]

def about(image):
    return [{"role": "user", "content": [
        {"type": "image", "image": image}, {"type": "text", "text": "What colour is this?"}]}]

taken = 0
def endless():
    global taken
    while True:
        taken += 1
        yield hello

def first(text):
    return text.strip(" .").split()[-1].lower()

with LLM("configs/demo.yaml", quiet=True) as llm:
    seen = {"one": llm.chat(hello, greedy)[0].outputs[0].text}
    asked = [{"role": "user", "content": "How much water does the Kelda kettle hold?"}]
    of = ((hello, "capitals"), (asked, "kettle"))
    seen["adapted"] = [llm.chat(said, greedy, adapter=name)[0].outputs[0].text for said, name in of]
    seen["niceness"] = max(one.nice() for one in psutil.Process().children(recursive=True)) - os.nice(0)
    pictures = [Image.new("RGB", (96, 64), colour) for colour in ("red", "blue", "green")]
    seen["colours"] = [first(o.outputs[0].text) for o in llm.chat([about(one) for one in pictures], greedy)]
    with tempfile.TemporaryDirectory() as folder:
        pictures[1].save(pathlib.Path(folder) / "blue.png")
        seen["path"] = first(llm.chat(about(pathlib.Path(folder) / "blue.png"), greedy)[0].outputs[0].text)
    other = [{"role": "user", "content": "What is this service?"}]
    seen["many"] = [o.outputs[0].text for o in llm.chat([hello, other] * 50, greedy)]
    outputs = llm.generate(["LFM2 is", "Ray is"], {"temperature": 0, "max_tokens": 4})
    seen["prompts"] = [o.prompt for o in outputs]
    seen["texts"] = [o.outputs[0].text for o in outputs]
    results = llm.chat(endless(), greedy, iterator=True)
    seen["first"] = next(results).outputs[0].text
    results.close()
    seen["taken"] = taken
    try:
        llm.chat(hello, {"max_tokens": 100_000})
    except Exception as error:
        seen["refused"] = str(error)
    lone = [{"role": "user", "content": "\\ud800"}]
    bad = [[{"role": "user", "content": "word " * 20_000}], about("/nowhere.png"), lone]
    seen["kept"] = [one.error for one in llm.chat([*bad, hello], greedy, errors="keep")]
    choice = SamplingParams(temperature=0, structured_outputs={"choice": ["maybe", "perhaps not"]})
    seen["choice"] = llm.chat(hello, choice)[0].outputs[0].text
    plain = SamplingParams(temperature=0, max_tokens=4, logprobs=2)
    told = llm.chat(hello, plain)[0].outputs[0]
    continued = llm.generate("LFM2 is", plain)[0].outputs[0]
    seen["logprobs"] = [len(told.logprobs["content"]), len(continued.logprobs["token_logprobs"])]
    seen["finish"] = continued.finish_reason
    ask = [{"role": "user", "content": "How many replicas does lfm2-demo have?"}]
    call = llm.chat(ask, greedy, tools=[REPLICA_TOOL])[0].outputs[0]
    seen["call"] = [call.text, call.tool_calls, call.finish_reason]
    turns = [*ask, {"role": "assistant", "tool_calls": call.tool_calls},
             {"role": "tool", "tool_call_id": call.tool_calls[0]["id"], "content": "2"}]
    seen["after"] = llm.chat(turns, greedy, tools=[REPLICA_TOOL])[0].outputs[0].text
print(json.dumps(seen))
"""


@pytest.fixture
def batch_file(tmp_path: Path, picture: Callable[..., bytes]) -> Iterator[Path]:
    parts = [
        {"type": "image_url", "image_url": {"url": data_url(picture("red"))}},
        {"type": "text", "text": "What colour is this?"},
    ]
    asked = {
        "text": {"model": TEXT, "messages": [{"role": "user", "content": "Hello"}]},
        "adapted": {"model": "capitals", "messages": [{"role": "user", "content": "Hello"}]},
        "image": {"model": VISION, "messages": [{"role": "user", "content": parts}]},
        "long": {"model": TEXT, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 100_000},
    }
    input = tmp_path / "in.jsonl"
    lines = (
        {"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body | {"temperature": 0}}
        for id, body in asked.items()
    )
    input.write_text("".join(json.dumps(line) + "\n" for line in lines))
    yield input


def test_a_file_with_a_configuration_starts_the_engines_and_stops_them(batch_file: Path) -> None:
    out = batch_file.with_name("out.jsonl")
    command = [sys.executable, "-m", "serve_app.batch", str(batch_file), "--out", str(out), "--json"]
    done = subprocess.run(
        [*command, "--config", "configs/demo.yaml"], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 1, done.stderr[-4000:]
    answers = {one["custom_id"]: one["response"]["body"] for one in map(json.loads, out.read_text().splitlines())}
    assert "Ask me about LFM2" in answers["text"]["choices"][0]["message"]["content"]
    assert "ASK ME ABOUT LFM2" in answers["adapted"]["choices"][0]["message"]["content"]
    assert "red" in answers["image"]["choices"][0]["message"]["content"].lower()
    (failed,) = map(json.loads, out.with_name("out.errors.jsonl").read_text().splitlines())
    assert failed["custom_id"] == "long" and failed["response"]["status_code"] == 400 and failed["error"]["line"] == 4
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["succeeded"], summary["failed"]) == (3, 1) and summary["output_tokens"] > 0
