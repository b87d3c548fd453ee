"""Build and train `lfm2-vl-demo`."""

import io
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    Lfm2VlConfig,
    Lfm2VlForConditionalGeneration,
    Lfm2VlProcessor,
    PreTrainedTokenizerFast,
    Siglip2VisionConfig,
)
from transformers.models.lfm2_vl.image_processing_lfm2_vl import Lfm2VlImageProcessor

from tools.demo import text
from tools.demo.facts import load_vision_facts
from tools.demo.images import COLOURS, random_image
from tools.demo.tokenizer import BOS, IM_END, PAD, train_tokenizer
from tools.demo.training import answer_loss, assistant_labels, fit, pad_batch, save
from tools.demo.vision_corpus import ImageTalk, VisionCorpus

SEED = 11
VOCAB_SIZE = 512
STEPS = 1200
BATCH = 40
POOL_PER_COLOUR = 500
TOKENS = (4, 16)

Features = tuple[Tensor, Tensor, int]


def config(image_token_id: int) -> Lfm2VlConfig:
    """LFM2-VL's architecture over the text model's shape."""
    backbone = text.config()
    backbone.vocab_size = VOCAB_SIZE
    backbone.architectures = ["Lfm2ForCausalLM"]
    vision = Siglip2VisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        patch_size=16,
        num_patches=64,
        vision_use_head=False,
    )
    return Lfm2VlConfig(
        text_config=backbone,
        vision_config=vision,
        image_token_id=image_token_id,
        projector_hidden_size=192,
        projector_use_layernorm=True,
        downsample_factor=2,
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=IM_END,
        pad_token_id=PAD,
    )


def image_processor() -> Lfm2VlImageProcessor:
    """One tile an image, 4 to 16 tokens."""
    return Lfm2VlImageProcessor(
        do_image_splitting=False,
        min_tiles=1,
        max_tiles=1,
        use_thumbnail=False,
        min_image_tokens=TOKENS[0],
        max_image_tokens=TOKENS[1],
        tile_size=128,
        size={"height": 128, "width": 128},
    )


def image_pool(processor: Lfm2VlImageProcessor, per_colour: int) -> dict[str, list[Features]]:
    """Processed images of each colour: patches, grid, and number of tokens."""
    rng = np.random.default_rng(SEED)
    pool: dict[str, list[Features]] = {}
    for colour in COLOURS:
        pool[colour] = []
        for index in range(per_colour):
            pixels = 2_000_000 if index % 25 == 0 else 60_000
            data, _ = random_image(rng, colour, max_pixels=pixels)
            picture = Image.open(io.BytesIO(data)).convert("RGB")
            done = processor([picture], return_tensors="pt", return_row_col_info=False)
            grid = done["spatial_shapes"][0]
            count = int(grid[0] // 2) * int(grid[1] // 2)
            pool[colour].append((done["pixel_values"][0].half(), grid, count))
    return pool


def expand(prompt: str, counts: list[int]) -> str:
    """The prompt with each placeholder turned into as many tokens as its image has."""
    pieces = prompt.split("<image>")
    out = [pieces[0]]
    for count, piece in zip(counts, pieces[1:], strict=True):
        out += ["<|image_start|>", "<image>" * count, "<|image_end|>", piece]
    return "".join(out)


def batches(
    corpus: VisionCorpus,
    tokenizer: PreTrainedTokenizerFast,
    pool: dict[str, list[Features]],
) -> Iterator[tuple[Tensor, Tensor, list[Features]]]:
    """Token ids, labels and the images of random conversations, for ever."""
    opening = tokenizer.encode("assistant\n", add_special_tokens=False)
    while True:
        texts, images = [], []
        for _ in range(BATCH):
            talk: ImageTalk = corpus.conversation()
            chosen = [corpus.rng.choice(pool[colour]) for colour in talk.colours]
            prompt = tokenizer.apply_chat_template(talk.messages, tokenize=False)
            texts.append(expand(prompt, [count for *_, count in chosen]))
            images += chosen
        rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
        yield (*pad_batch([(ids, assistant_labels(ids, opening)) for ids in rows]), images)


def nest_vision_keys(out: Path) -> None:
    """Name the tower's weights as vLLM expects them; transformers reads both names."""
    path = out / "model.safetensors"
    old, new = "model.vision_tower.", "model.vision_tower.vision_model."
    weights = {
        (new + key[len(old) :] if key.startswith(old) and not key.startswith(new) else key): value
        for key, value in load_file(path).items()
    }
    save_file(weights, path, metadata={"format": "pt"})
    path.chmod(0o644)


def train(out: Path, steps: int = STEPS) -> None:
    """Train from scratch and write the checkpoint to `out`."""
    torch.manual_seed(SEED)
    corpus = VisionCorpus(load_vision_facts(), random.Random(SEED))
    tokenizer = train_tokenizer(corpus.texts(3000), VOCAB_SIZE, images=True)
    processor = image_processor()
    model = Lfm2VlForConditionalGeneration(config(tokenizer.convert_tokens_to_ids("<image>")))
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens", flush=True)
    pool = image_pool(processor, POOL_PER_COLOUR)
    print("images ready", flush=True)
    stream = batches(corpus, tokenizer, pool)
    positions = torch.arange(TOKENS[1] * 4)

    def loss_of(_: int) -> tuple[Tensor, Tensor]:
        ids, labels, images = next(stream)
        grids = torch.stack([grid for _, grid, _ in images])
        hidden = model.model(
            input_ids=ids,
            pixel_values=torch.stack([patches for patches, *_ in images]).float(),
            spatial_shapes=grids,
            pixel_attention_mask=(positions < grids.prod(-1, keepdim=True)).int(),
            use_cache=False,
        ).last_hidden_state
        return answer_loss(hidden, labels, model.lm_head)

    fit(model, loss_of, steps, peak=2e-3)
    save(model, tokenizer, out)
    nest_vision_keys(out)
    Lfm2VlProcessor(processor, tokenizer, chat_template=tokenizer.chat_template).save_pretrained(out)
