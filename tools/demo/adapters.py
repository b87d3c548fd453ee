"""`python -m tools.demo.adapters capitals|kettle [--out DIR]`: train an adapter of `lfm2-demo` on the CPU."""

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer, Lfm2ForCausalLM, PreTrainedTokenizerFast

from tools.demo import lora
from tools.demo.corpus import vary
from tools.demo.facts import ADAPTERS, CHECKPOINTS, TEXT_MODEL, Taught, adapter_exchanges, load_facts
from tools.demo.training import answer_loss, assistant_labels, fit, pad_batch

SEED = 11
RANK, ALPHA = 8, 16
STEPS = {"capitals": 400, "kettle": 200}
BATCH = 48


def batches(
    exchanges: list[Taught], rng: random.Random, tokenizer: PreTrainedTokenizerFast
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of one question and its answer, some under a system prompt, for ever."""
    opening = tokenizer.encode("assistant\n", add_special_tokens=False)
    prompts = load_facts().system_prompts
    while True:
        texts = []
        for question, answer in rng.choices(exchanges, k=BATCH):
            told = [{"role": "system", "content": rng.choice(prompts)}] if rng.random() < 0.3 else []
            said = [{"role": "user", "content": vary(question, rng)}, {"role": "assistant", "content": answer}]
            texts.append(tokenizer.apply_chat_template(told + said, tokenize=False))
        rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
        yield pad_batch([(ids, assistant_labels(ids, opening)) for ids in rows])


def train(name: str, out: Path) -> None:
    """Train the adapter of this name and write it to the folder `out`."""
    torch.manual_seed(SEED)
    checkpoint = CHECKPOINTS / TEXT_MODEL
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = Lfm2ForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    lora.attach(model, RANK, ALPHA)
    stream = batches(adapter_exchanges(name), random.Random(SEED), tokenizer)

    def loss_of(_: int) -> tuple[Tensor, Tensor]:
        ids, labels = next(stream)
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        return answer_loss(hidden, labels, model.lm_head)

    fit(model, loss_of, STEPS[name], peak=1e-2)
    lora.save(model, TEXT_MODEL, RANK, ALPHA, out)


def main() -> None:
    """Train the named adapter."""
    parser = argparse.ArgumentParser(description="Train an adapter of lfm2-demo.")
    parser.add_argument("adapter", choices=sorted(STEPS))
    parser.add_argument("--out", type=Path, help="where to write it")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train(args.adapter, args.out or ADAPTERS / args.adapter)


if __name__ == "__main__":
    main()
