"""Build and train `lfm2-demo`."""

import random
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import Lfm2Config, Lfm2ForCausalLM, PreTrainedTokenizerFast

from tools.demo.corpus import Corpus
from tools.demo.facts import load_facts
from tools.demo.tokenizer import BOS, IM_END, PAD, train_tokenizer
from tools.demo.training import answer_loss, assistant_labels, fit, pad_batch, save

SEED = 7
VOCAB_SIZE = 1024
HIDDEN = 128
STEPS = 1400
BATCH = 80
POOL = 16


def config() -> Lfm2Config:
    """LFM2's architecture, as small as it will still learn the facts."""
    return Lfm2Config(
        vocab_size=VOCAB_SIZE,
        hidden_size=HIDDEN,
        intermediate_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        layer_types=["conv", "full_attention", "conv", "full_attention"],
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        block_auto_adjust_ff_dim=False,
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=BOS,
        eos_token_id=IM_END,
        pad_token_id=PAD,
        # vLLM reads these three, and Lfm2Config has no defaults for them.
        block_dim=HIDDEN,
        conv_dim=HIDDEN,
        conv_dim_out=HIDDEN,
    )


def corpus_texts(corpus: Corpus, count: int) -> Iterator[str]:
    """Texts of random conversations, for the tokenizer."""
    for _ in range(count):
        talk = corpus.conversation()
        for message in talk.messages:
            yield message["content"]
        if talk.tools:
            yield str(talk.tools).replace("'", '"')


def batches(corpus: Corpus, tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of conversations of about the same length, for ever."""
    opening = tokenizer.encode("assistant\n", add_special_tokens=False)
    while True:
        rows = []
        talks = [corpus.conversation() for _ in range(BATCH * POOL)]
        texts = [tokenizer.apply_chat_template(t.messages, tools=t.tools, tokenize=False) for t in talks]
        for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
            rows.append((ids, assistant_labels(ids, opening)))
        rows.sort(key=lambda row: len(row[0]))
        groups = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
        corpus.rng.shuffle(groups)
        yield from (pad_batch(group) for group in groups)


def train(out: Path, steps: int = STEPS) -> None:
    """Train from scratch and write the checkpoint to `out`."""
    torch.manual_seed(SEED)
    facts = load_facts()
    corpus = Corpus(facts, random.Random(SEED))
    tokenizer = train_tokenizer(corpus_texts(corpus, 4000), VOCAB_SIZE, images=False)
    model = Lfm2ForCausalLM(config())
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens", flush=True)
    stream = batches(corpus, tokenizer)

    def loss_of(_: int) -> tuple[Tensor, Tensor]:
        ids, labels = next(stream)
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        return answer_loss(hidden, labels, model.lm_head)

    fit(model, loss_of, steps, peak=4e-3)
    save(model, tokenizer, out)
