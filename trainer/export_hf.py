"""Export in Hugging Face's layout: weights, configuration and tokenizer, ready to be loaded.

Models of equal layers become ``Qwen3ForCausalLM``, which computes the same: norm before rotary
positions, grouped-query attention, SwiGLU, no biases, tied embeddings. Layer-wise models take
OpenELM's names and configuration, which MLX and converters to GGUF read.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenizer import export, special
from trainer.model_files import TOKENIZER, WEIGHTS, Model
from trainer.safe_file import save_arrays
from trainer.shape import Shape, layerwise, make_divisible

Arrays = dict[str, NDArray[Any]]

CONFIG = "config.json"
FILES = {
    CONFIG, "generation_config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json", TOKENIZER,
}  # fmt: skip
"""What an exported folder holds."""

_QWEN3 = {
    "attention_norm": "input_layernorm", "q": "self_attn.q_proj", "k": "self_attn.k_proj",
    "v": "self_attn.v_proj", "o": "self_attn.o_proj", "q_norm": "self_attn.q_norm",
    "k_norm": "self_attn.k_norm", "ffn_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip


def export_hf(model: Model, folder: str, dtype: str = "float32") -> None:
    """Write a model as a folder, in ``float32`` or ``float16``; an earlier one is replaced."""
    uniform = model.shape.uniform
    weights = qwen3_weights(model) if uniform else openelm_weights(model)
    config = (qwen3_config if uniform else openelm_config)(model.shape, model.context)
    config["torch_dtype"] = config["dtype"] = dtype
    temporary = f"{folder.rstrip('/')}.writing"
    contents = {
        CONFIG: _json(config),
        "generation_config.json": _json(
            {"eos_token_id": special.EOS_ID, "pad_token_id": special.PAD_ID}
        ),
        "tokenizer.json": export.tokenizer_json(model.tokenizer),
        "tokenizer_config.json": export.tokenizer_config(model.tokenizer, model.context),
        TOKENIZER: model.tokenizer.content,
    }
    shutil.rmtree(temporary, ignore_errors=True)
    os.makedirs(temporary)
    try:
        save_arrays(
            {name: np.asarray(value, np.dtype(dtype)) for name, value in weights.items()},
            os.path.join(temporary, WEIGHTS),
            metadata={"format": "pt"},
        )
        for name, content in contents.items():
            with open(os.path.join(temporary, name), "wb") as out:
                out.write(content)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_exported(folder: str) -> bool:
    """Whether a folder holds nothing but an exported model, so that another may replace it."""
    if not os.path.isdir(folder) or not FILES.issuperset(os.listdir(folder)):
        return False
    try:
        with open(os.path.join(folder, CONFIG), encoding="utf-8") as handle:
            config = json.load(handle)
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") in ("qwen3", "openelm")


def qwen3_weights(model: Model) -> Arrays:
    """The weights by Qwen3's names, (out, in)."""
    found = {
        "model.embed_tokens.weight": model.params["embedding"],
        "model.norm.weight": model.params["norm"],
    }
    for number in range(len(model.shape.layers)):
        for own, name in _QWEN3.items():
            value = model.params[f"layers.{number}.{own}"]
            found[f"model.layers.{number}.{name}.weight"] = value.T
    return found


def qwen3_config(shape: Shape, context: int) -> dict[str, Any]:
    """``config.json`` of a model of equal layers."""
    layer = shape.layers[0]
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "eos_token_id": special.EOS_ID,
        "pad_token_id": special.PAD_ID,
        "head_dim": shape.head,
        "hidden_act": "silu",
        "hidden_size": shape.width,
        "initializer_range": 1 / math.sqrt(shape.width),
        "intermediate_size": layer.hidden,
        "max_position_embeddings": context,
        "num_attention_heads": layer.heads,
        "num_hidden_layers": len(shape.layers),
        "num_key_value_heads": layer.kv_heads,
        "rms_norm_eps": shape.norm_eps,
        # Before version 5 transformers read the first of these, and since then the second.
        "rope_theta": shape.rope_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_base},
        "sliding_window": None,
        "tie_word_embeddings": True,
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": shape.vocabulary,
    }


def openelm_weights(model: Model) -> Arrays:
    """The weights by OpenELM's names: queries, keys and values in one, gate and up in one."""
    params = model.params
    found = {
        "transformer.token_embeddings.weight": params["embedding"],
        "transformer.norm.weight": params["norm"],
    }
    for number in range(len(model.shape.layers)):
        own = {name: params[f"layers.{number}.{name}"] for name in _QWEN3}
        layer = f"transformer.layers.{number}"
        found |= {
            f"{layer}.attn_norm.weight": own["attention_norm"],
            f"{layer}.attn.qkv_proj.weight": np.concatenate([own[n].T for n in ("q", "k", "v")]),
            f"{layer}.attn.q_norm.weight": own["q_norm"],
            f"{layer}.attn.k_norm.weight": own["k_norm"],
            f"{layer}.attn.out_proj.weight": own["o"].T,
            f"{layer}.ffn_norm.weight": own["ffn_norm"],
            f"{layer}.ffn.proj_1.weight": np.concatenate([own["gate"].T, own["up"].T]),
            f"{layer}.ffn.proj_2.weight": own["down"].T,
        }
    return found


def openelm_config(shape: Shape, context: int) -> dict[str, Any]:
    """``config.json`` of a layer-wise model, in OpenELM's terms.

    Its hidden widths are told as multiples of the width, rounded to a divisor; the greatest common
    divisor of the widths gives them back exactly.
    """
    hidden = [layer.hidden for layer in shape.layers]
    groups = shape.layers[0].heads // shape.layers[0].kv_heads
    divisor = math.gcd(*hidden)
    multipliers = [width / shape.width for width in hidden]
    assert [make_divisible(m * shape.width, divisor) for m in multipliers] == hidden
    return {
        "architectures": ["OpenELMForCausalLM"],
        "model_type": "openelm",
        "activation_fn_name": "swish",
        "bos_token_id": None,
        "eos_token_id": special.EOS_ID,
        "pad_token_id": special.PAD_ID,
        "ffn_dim_divisor": divisor,
        "ffn_multipliers": multipliers,
        "ffn_with_glu": True,
        "head_dim": shape.head,
        "initializer_range": 1 / math.sqrt(shape.width),
        "max_context_length": context,
        "model_dim": shape.width,
        "normalization_layer_name": "rms_norm",
        "normalize_qk_projections": True,
        "num_gqa_groups": groups,
        "num_kv_heads": [layer.kv_heads for layer in shape.layers],
        "num_query_heads": [layer.heads for layer in shape.layers],
        "num_transformer_layers": len(shape.layers),
        "qkv_multipliers": _ends(shape, groups),
        "rope_freq_constant": shape.rope_base,
        "rope_max_length": 2 * context,
        "share_input_output_layers": True,
        "use_cache": True,
        "vocab_size": shape.vocabulary,
    }


def _ends(shape: Shape, groups: int) -> list[float]:
    """The first and the last multiple of the width that queries have.

    OpenELM's configuration holds no list of them by layer: heads grow evenly from end to end.

    Raises:
      ValueError: no two such hundredths give this model's heads.
    """
    if any(layer.heads != groups * layer.kv_heads for layer in shape.layers):
        raise ValueError("OpenELM's layout has one number of query heads for each key-value head")
    heads = [layer.heads for layer in shape.layers]
    first, last = (_hundredths(shape, n, groups) for n in (heads[0], heads[-1]))
    for a, b in product(first, last):
        grown = layerwise(
            shape.vocabulary, shape.width, len(heads), shape.head, alpha=(a, b), group=groups
        )
        if [layer.heads for layer in grown.layers] == heads:
            return [a, b]
    raise ValueError(
        f"heads of {heads}: OpenELM's layout grows them evenly from the first layer to the last"
    )


def _hundredths(shape: Shape, heads: int, groups: int) -> list[float]:
    """The multiples of the width that are rounded to so many heads, what it is exactly first."""
    exact = heads * shape.head / shape.width
    near = [n / 100 for n in range(1, math.ceil(200 * exact) + 1)]
    fit = [
        a for a in near
        if make_divisible(shape.width * a, shape.head * groups) == heads * shape.head
    ]  # fmt: skip
    return sorted(fit, key=lambda a: (abs(a - exact), a))


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
