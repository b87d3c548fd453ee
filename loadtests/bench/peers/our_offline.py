"""This project's `LLM` in a process of its own, over the prompts of a batch file."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from serve_app import LLM


def main(prompts: Path, warm_up: int, config: Path) -> None:
    """Prints what it measured as a JSON object, last."""
    began = time.monotonic()
    bodies = [json.loads(line)["body"] for line in prompts.read_text().splitlines()]
    conversations = [body.pop("messages") for body in bodies]
    params = [{name: body[name] for name in body if name != "model"} for body in bodies]
    with LLM(config) as llm:
        llm.chat(conversations[:warm_up], params[:warm_up], use_tqdm=False)
        ready = time.monotonic()
        outputs = llm.chat(conversations[warm_up:], params[warm_up:], use_tqdm=False)
        seconds = time.monotonic() - ready
    figures = {
        "start_s": ready - began,
        "seconds": seconds,
        "prompt_tokens": sum(output.prompt_tokens for output in outputs),
        "output_tokens": sum(output.output_tokens for output in outputs),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    main(Path(arguments["prompts"]), arguments["warm_up"], Path(arguments["config"]))
