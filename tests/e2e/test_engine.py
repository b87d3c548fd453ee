"""The engines themselves: their numbers beside transformers', and what happens when one is killed under load."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import httpx
import openai
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

import serve_app
from serve_app.launching.processes import LAUNCH_ID, Family
from tests.e2e.conftest import TEXT, VISION
from tests.support.continued import joined
from tests.support.service import Service, running_service

CONFIG = """
http_options: {host: 127.0.0.1, port: 8000}
applications:
  - name: lfm2
    route_prefix: /
    import_path: serve_app.app:build
    args:
      models:
        - {id: lfm2-demo, replicas: 2, cpus: 0.3, engine_args: {dtype: float32}}
        - {id: lfm2-vl-demo, cpus: 0.3, engine_args: {dtype: float32}}
        - id: embedder
          source: package:demo/lfm2-demo
          kind: embedding
          gpus: 0
          cpus: 0.3
          engine_args: {runner: pooling, convert: embed, max_model_len: 1024}
      ingress: {cpus: 0.1}
"""


HI = [{"role": "user", "content": "Hello"}]
TOKENS = 1900
LONG = {"model": TEXT, "stream": True, "ignore_eos": True}
LONG_ANSWERS = {
    "/v1/completions": {**LONG, "prompt": "a", "max_tokens": TOKENS, "stream_options": {"include_usage": True}},
    "/v1/chat/completions": {**LONG, "messages": HI, "max_tokens": TOKENS, "stream_options": {"include_usage": True}},
    "/v1/responses": {**LONG, "input": "a", "max_output_tokens": TOKENS},
    "/v1/messages": {**LONG, "messages": HI, "max_tokens": TOKENS, "temperature": 0},
}
"""The last knows no `ignore_eos` and ends by itself."""
USED = {
    "/v1/completions": ".usage.completion_tokens",
    "/v1/chat/completions": ".usage.completion_tokens",
    "/v1/responses": "response.completed.response.usage.output_tokens",
    "/v1/messages": "message_delta.usage.output_tokens",
}
IDS = {
    "/v1/completions": ".id",
    "/v1/chat/completions": ".id",
    "/v1/responses": "response.completed.response.id",
    "/v1/messages": "message_start.message.id",
}


@pytest.fixture(scope="module")
def own_service(tmp_path_factory: pytest.TempPathFactory):
    config = tmp_path_factory.mktemp("death") / "service.yaml"
    config.write_text(CONFIG)
    with running_service(config, start_timeout_s=300) as started:
        yield started


def family(service: Service) -> Family:
    """The processes of this service, and of no other on the machine."""
    command = f"--port {service.url.rpartition(':')[2]} "
    started = next(pid for pid in _pids() if command in _read(pid, "cmdline"))
    mark = f"{LAUNCH_ID}="
    return next(
        Family(word.removeprefix(mark))
        for child in _pids()
        if _parent(child) == started
        for word in _read(child, "environ").split()
        if word.startswith(mark)
    )


def text_engines(service: Family) -> list[int]:
    """The EngineCore processes of the text model's replicas."""
    return [
        pid
        for pid in service.members()
        if "EngineCore" in _read(pid, "cmdline") and ":lfm2-demo" in _read(_parent(pid), "cmdline")
    ]


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _read(pid: int, name: str) -> str:
    try:
        return (Path("/proc") / str(pid) / name).read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _parent(pid: int) -> int:
    return int((_read(pid, "status").partition("PPid:\t")[2].split() or ["0"])[0])


@pytest.mark.parametrize("model", [TEXT, VISION])
def test_prompt_log_probabilities_equal_transformers(own_service: Service, model: str) -> None:
    prompt = "The service is called LFM2 on Ray Serve. " * 6
    checkpoint = Path(serve_app.__file__).parent / "demo" / model
    tokens = AutoTokenizer.from_pretrained(checkpoint)(prompt)["input_ids"]
    body = {"model": model, "prompt": tokens, "max_tokens": 1, "prompt_logprobs": 0}
    answer = httpx.post(f"{own_service.url}/v1/completions", json=body, timeout=60).json()
    served = [
        entry[str(token)]["logprob"]
        for token, entry in zip(tokens[1:], answer["choices"][0]["prompt_logprobs"][1:], strict=True)
    ]
    loader = AutoModelForCausalLM if model == TEXT else AutoModelForImageTextToText
    reference = loader.from_pretrained(checkpoint, dtype=torch.float32).eval()
    with torch.no_grad():
        scores = reference(input_ids=torch.tensor([tokens])).logits[0, :-1].log_softmax(-1)
    wanted = scores.gather(1, torch.tensor(tokens[1:])[:, None])[:, 0].tolist()
    assert len(tokens) > 50 and served == pytest.approx(wanted, abs=1e-3)


def test_embeddings(own_service: Service) -> None:
    with openai.OpenAI(base_url=f"{own_service.url}/v1", api_key="none") as client:
        found = client.embeddings.create(model="embedder", input=["Hello", "Hello", "make serve"]).data
        with pytest.raises(openai.NotFoundError, match="does not offer"):
            client.chat.completions.create(model="embedder", messages=[{"role": "user", "content": "Hello"}])
    assert found[0].embedding == pytest.approx(found[1].embedding, abs=1e-3)
    assert found[0].embedding != pytest.approx(found[2].embedding, abs=1e-3)


async def test_an_engine_that_is_killed_costs_no_answer(own_service: Service) -> None:
    async with httpx.AsyncClient(base_url=own_service.url, timeout=120) as http:

        async def stream(path: str, begun: asyncio.Event) -> bytes:
            received = b""
            async with http.stream("POST", path, json=LONG_ANSWERS[path]) as response:
                async for chunk in response.aiter_raw():
                    received += chunk
                    begun.set()
            return received

        async with asyncio.timeout(300):
            processes = family(own_service)
            # A title is read in pieces while Ray writes another: one look may miss a process.
            while not await _both_ready(http) or len(engines := text_engines(processes)) < 2:
                await asyncio.sleep(1)
            assert len(engines) == 2
            undisturbed = joined(await stream("/v1/messages", asyncio.Event()))
            begun = [asyncio.Event() for _ in range(8)]
            paths = [*LONG_ANSWERS, *LONG_ANSWERS]
            streams = [asyncio.create_task(stream(*one)) for one in zip(paths, begun, strict=True)]
            body = LONG_ANSWERS["/v1/completions"] | {"stream": False, "stream_options": None}
            plain = [asyncio.create_task(http.post("/v1/completions", json=body)) for _ in range(4)]
            await asyncio.gather(*(event.wait() for event in begun))
            os.kill(killed := engines[0], signal.SIGKILL)
            for path, one in zip(paths, streams, strict=True):
                tokens = undisturbed[USED[path]][-1] if path == "/v1/messages" else TOKENS
                assert_whole(path, await one, tokens)
            assert {answer.status_code for answer in await asyncio.gather(*plain)} == {200}
            metrics = (await http.get("/metrics")).text
            continued = re.search(
                r'serve_app_continued_streams_total\{cause="engine",model="lfm2-demo"\} (\d+)', metrics
            )
            assert continued and 0 < int(continued[1]) < 8, "those of one replica of two"
            while killed in processes.members() or not await _both_ready(http):
                assert (await http.post("/v1/completions", json={**body, "max_tokens": 2})).status_code == 200
                await asyncio.sleep(1)


def assert_whole(path: str, answer: bytes, tokens: int) -> None:
    """As if nothing had happened."""
    said = joined(answer)
    assert len(said[IDS[path]]) == 1 and said[USED[path]][-1] == tokens, answer[-2000:]
    assert answer.count(b"[DONE]") == (path in ("/v1/completions", "/v1/chat/completions"))
    assert b'"error":{' not in answer and b"event: error" not in answer


async def _both_ready(http: httpx.AsyncClient) -> bool:
    return (await http.get("/ready")).json()["models"][TEXT]["ready"] == 2
