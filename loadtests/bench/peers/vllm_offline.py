"""vLLM's own offline engine in a process of its own: `LLM.chat` over the prompts of a batch file."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def main(prompts: Path, warm_up: int, engine_args: dict[str, Any]) -> None:
    """Prints what it measured as a JSON object, last."""
    began = time.monotonic()
    from vllm import LLM, SamplingParams

    bodies = [json.loads(line)["body"] for line in prompts.read_text().splitlines()]
    conversations = [body.pop("messages") for body in bodies]
    params = [SamplingParams(**{name: body[name] for name in body if name != "model"}) for body in bodies]
    llm = LLM(**engine_args)
    llm.chat(conversations[:warm_up], params[:warm_up], use_tqdm=False)
    ready = time.monotonic()
    outputs = llm.chat(conversations[warm_up:], params[warm_up:], use_tqdm=False)
    figures = {
        "start_s": ready - began,
        "seconds": time.monotonic() - ready,
        "prompt_tokens": sum(len(output.prompt_token_ids or ()) for output in outputs),
        "output_tokens": sum(len(output.outputs[0].token_ids) for output in outputs),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    main(Path(arguments["prompts"]), arguments["warm_up"], arguments["engine_args"])
