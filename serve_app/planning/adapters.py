"""Memory of adapters: what vLLM 0.32 allocates for them when it starts, whatever is loaded later.

Each linear layer of a block has, for each adapter that may be loaded at the same time, two matrices of the highest
rank: A, rank x inputs, and B, outputs x rank. Where vLLM has put several layers into one (query, key and value; the two
gates of the feed-forward network; the three outputs of a convolution's input projection), each has an A of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BYTES = 2
"""Of a number: adapters are held in the model's own type, bfloat16."""


def bytes_per_rank(config: Mapping[str, Any]) -> int:
    """Memory of one adapter for each unit of its rank, bytes, on a model whose `config.json` this is.

    The model is LFM2, dense or with experts, or the text part of LFM2-VL. Raises KeyError for another.
    """
    config = config.get("text_config", config)
    width, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
    attention = _attention_layers(config)
    dense = int(config.get("num_dense_layers", layers))
    values = attention * _attention(config, width) + (layers - attention) * _convolution(width)
    values += dense * _feed_forward(width, _inner_width(config))
    if layers > dense:
        values += (layers - dense) * config["num_experts"] * _feed_forward(width, config["moe_intermediate_size"])
    return BYTES * values


def _attention(config: Mapping[str, Any], width: int) -> int:
    heads, kv_heads = int(config["num_attention_heads"]), int(config["num_key_value_heads"])
    head = width // heads
    return _layer(width, [heads * head, kv_heads * head, kv_heads * head]) + _layer(heads * head, [width])


def _convolution(width: int) -> int:
    return _layer(width, [width] * 3) + _layer(width, [width])


def _feed_forward(width: int, inner: int) -> int:
    return _layer(width, [inner] * 2) + _layer(inner, [width])


def _layer(inputs: int, outputs: list[int]) -> int:
    """Numbers for each unit of rank: an A for each part, and the B of all."""
    return len(outputs) * inputs + sum(outputs)


def _attention_layers(config: Mapping[str, Any]) -> int:
    if (kinds := config.get("layer_types")) is not None:
        return sum(kind == "full_attention" for kind in kinds)
    return len(config["full_attn_idxs"])


def _inner_width(config: Mapping[str, Any]) -> int:
    """Of a dense feed-forward network: LFM2's configurations give the width that it would have without gates."""
    inner = int(config.get("block_ff_dim", config.get("intermediate_size", 0)))
    if not config.get("block_auto_adjust_ff_dim", False):
        return inner
    inner = int(config.get("block_ffn_dim_multiplier", 1.0) * int(2 * inner / 3))
    multiple = int(config["block_multiple_of"])
    return multiple * -(-inner // multiple)
