"""Starts the text model's engine with its adapters and prints, as JSON, how it scores and answers beside transformers.

`python -m tests.scripts.adapted_engine`
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from serve_app.config.schema import ImageConfig, ServiceConfig
from serve_app.planning.resolve import resolve
from tools.demo import lora
from tools.demo.facts import ADAPTERS, CHECKPOINTS, TEXT_MODEL

TEXT = "How do I start the service? How much water does the Kelda kettle hold? " * 4
MAX_LOADED, MAX_RANK = 2, 8
QUESTIONS = ("What is the default port?", "How much water does the Kelda kettle hold?")


def wanted(tokens: list[int], adapter: Path | None) -> list[float]:
    """transformers' log-probabilities of the tokens after the first, the adapter merged into the weights."""
    model = AutoModelForCausalLM.from_pretrained(CHECKPOINTS / TEXT_MODEL, dtype=torch.float32).eval()
    if adapter is not None:
        lora.merge(model, adapter)
    with torch.no_grad():
        scores = model(input_ids=torch.tensor([tokens])).logits[0, :-1].log_softmax(-1)
    return scores.gather(1, torch.tensor(tokens[1:])[:, None])[:, 0].tolist()


def allocated(worker: Any) -> int:
    """Numbers that a worker of vLLM holds room for in adapters' matrices."""
    layers = worker.model_runner.lora_manager._adapter_manager.modules.values()
    stacks = [getattr(layer, f"lora_{part}_stacked") for layer in layers for part in "ab"]
    return sum(one.numel() for stack in stacks for one in ((stack,) if isinstance(stack, torch.Tensor) else stack))


async def main() -> None:
    from vllm.lora.request import LoRARequest
    from vllm.sampling_params import SamplingParams

    from serve_app.engine.vllm import VllmEngine

    adapters = {"base": None, "capitals": ADAPTERS / "capitals", "kettle": ADAPTERS / "kettle"}
    listed = [{"id": name, "source": str(path)} for name, path in adapters.items() if path]
    own = {"max_loaded": MAX_LOADED, "max_rank": MAX_RANK, "list": listed}
    entry = {"id": TEXT_MODEL, "engine_args": {"dtype": "float32"}, "adapters": own}
    engine = await VllmEngine.start(resolve(ServiceConfig.parse({"models": [entry]})).config.models[0], ImageConfig())
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINTS / TEXT_MODEL)

    async def generate(tokens: list[int], name: str, **sampling: Any) -> Any:
        params = SamplingParams(temperature=0, **sampling)
        path = adapters[name]
        request = LoRARequest(name, list(adapters).index(name), str(path)) if path else None
        id = f"{name} {hash(tuple(tokens))} {params.max_tokens}"
        stream = engine._llm.generate({"prompt_token_ids": tokens}, params, id, lora_request=request)
        return [output async for output in stream][-1]

    async def scores(tokens: list[int], name: str) -> list[float]:
        found = (await generate(tokens, name, max_tokens=1, prompt_logprobs=0)).prompt_logprobs
        return [entry[token].logprob for token, entry in zip(tokens[1:], found[1:], strict=True)]

    async def answer(question: str, name: str) -> str:
        said = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        return str((await generate(tokens, name, max_tokens=40)).outputs[0].text)

    [numbers] = await engine._llm.collective_rpc(allocated)
    tokens = tokenizer(TEXT)["input_ids"]
    served = await asyncio.gather(*(scores(tokens, name) for name in adapters))
    merged = {name: wanted(tokens, path) for name, path in adapters.items()}
    asked = [(name, question) for name in adapters for question in QUESTIONS]
    answers = await asyncio.gather(*(answer(question, name) for name, question in asked))
    told = {
        "numbers": numbers / (MAX_LOADED * MAX_RANK),
        "served": dict(zip(adapters, served, strict=True)),
        "merged": merged,
        "answers": {f"{name}: {question}": said for (name, question), said in zip(asked, answers, strict=True)},
    }
    print("told " + json.dumps(told), flush=True)
    await engine.stop()


if __name__ == "__main__":
    # Or no function could be sent to the worker.
    os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"
    asyncio.run(main())
