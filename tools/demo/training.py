"""What both trainings share: labels, the optimiser's schedule, and saving."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tools.demo.tokenizer import BOS, IM_END, IM_START, PAD

IGNORE = -100


def assistant_labels(ids: list[int], opening: list[int]) -> list[int]:
    """The ids the assistant must produce (its `<|im_end|>` included), IGNORE elsewhere."""
    labels = [IGNORE] * len(ids)
    start = [IM_START, *opening]
    position = 0
    while position < len(ids):
        if ids[position : position + len(start)] != start:
            position += 1
            continue
        position += len(start)
        while position < len(ids):
            labels[position] = ids[position]
            position += 1
            if ids[position - 1] == IM_END:
                break
    return labels


def pad_batch(rows: list[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    """Right-pad (ids, labels) rows; causal layers never look at the padding."""
    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([r + [PAD] * (width - len(r)) for r, _ in rows])
    labels = torch.tensor([r + [IGNORE] * (width - len(r)) for _, r in rows])
    return ids, labels


def answer_loss(hidden: Tensor, labels: Tensor, head: nn.Linear) -> tuple[Tensor, Tensor]:
    """Cross-entropy on labelled positions, and their accuracy.

    The normaliser is pulled to zero: a sure token then has a logit near zero, which a
    repetition penalty (a factor on the logit) leaves alone.
    """
    targets = labels[:, 1:]
    chosen = targets != IGNORE
    logits = head(hidden[:, :-1][chosen]).float()
    wanted = targets[chosen]
    normaliser = torch.logsumexp(logits, dim=-1)
    loss = functional.cross_entropy(logits, wanted) + 0.01 * normaliser.square().mean()
    return loss, (logits.argmax(-1) == wanted).float().mean()


def fit(
    model: PreTrainedModel,
    loss_of: Callable[[int], tuple[Tensor, Tensor]],
    steps: int,
    peak: float,
) -> None:
    """Minimise `loss_of(step)` with AdamW, a short warm-up and a cosine decay."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98))
    warm_up = max(1, steps // 20)

    def rate(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    model.train()
    began = time.monotonic()
    for step in range(steps):
        loss, accuracy = loss_of(step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            seconds = time.monotonic() - began
            print(f"step {step} loss {loss.item():.4f} accuracy {accuracy.item():.4f} {seconds:.0f} s", flush=True)
    model.eval()


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write bfloat16 weights, the tokenizer and a generation config."""
    out.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(out)
    generation = {"bos_token_id": BOS, "eos_token_id": IM_END, "pad_token_id": PAD}
    (out / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
