"""Memory of adapters: what vLLM 0.32 allocates for them when it starts, whatever is loaded later.

Each layer that an adapter may change has, for each adapter that may be loaded at the same time, two matrices of the
highest rank: A, rank x inputs, and B, outputs x rank. Where vLLM has put several layers into one (query, key and value;
the two gates of the feed-forward network; the three outputs of a convolution's input projection), each has an A of its
own. vLLM keeps a copy of each loaded adapter, of its own rank, in the host's memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve_app.config.schema import ModelConfig

BYTES = 2
"""Of a number: adapters are held in the model's own type, bfloat16."""


def bytes_at_once(model: ModelConfig) -> int | None:
    """Memory on one GPU for the adapters that a replica may have loaded at the same time.

    0 for a model without adapters, None where `memory` does not say how large they are.
    """
    if model.adapters is None:
        return 0
    one = bytes_of_one(model)
    return None if one is None else model.adapters.max_loaded * one


def bytes_of_one(model: ModelConfig) -> int | None:
    """Memory on one GPU for one adapter of `adapters.max_rank`; None where `memory` does not say, or without adapters.

    Tensor parallelism splits about half of it, which is not counted on.
    """
    if model.adapters is None or model.memory is None or model.memory.adapter_bytes_per_rank is None:
        return None
    return model.adapters.max_rank * model.memory.adapter_bytes_per_rank


def bytes_per_rank(config: Mapping[str, Any], *, blocks_alone: bool = False) -> int:
    """Memory of one adapter for each unit of its rank, bytes, on a model whose `config.json` this is.

    The model is LFM2, dense or with experts, or the text part of LFM2-VL; KeyError for another. With `blocks_alone`
    the convolution itself, the embeddings and the output layer are left out, as this service does on a CPU.
    """
    config = config.get("text_config", config)
    width, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
    attention = _attention_layers(config)
    convolutions = layers - attention
    dense = int(config.get("num_dense_layers", layers))
    values = attention * _attention(config, width) + convolutions * _projections(width)
    values += dense * _feed_forward(width, _inner_width(config))
    if layers > dense:
        values += (layers - dense) * config["num_experts"] * _feed_forward(width, config["moe_intermediate_size"])
    if not blocks_alone:
        values += convolutions * _layer(config["conv_L_cache"], [width]) + 2 * _layer(config["vocab_size"], [width])
    return BYTES * values


def _attention(config: Mapping[str, Any], width: int) -> int:
    heads, kv_heads = int(config["num_attention_heads"]), int(config["num_key_value_heads"])
    head = width // heads
    return _layer(width, [heads * head, kv_heads * head, kv_heads * head]) + _layer(heads * head, [width])


def _projections(width: int) -> int:
    """Into and out of a convolution."""
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
    """Of a dense feed-forward network: LFM2's configurations may give the width that it would have without gates."""
    inner = int(config.get("block_ff_dim", config.get("intermediate_size", 0)))
    if not config.get("block_auto_adjust_ff_dim", False):
        return inner
    inner = int(config.get("block_ffn_dim_multiplier", 1.0) * int(2 * inner / 3))
    multiple = int(config["block_multiple_of"])
    return multiple * -(-inner // multiple)
