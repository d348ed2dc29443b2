"""Export as GGUF, which llama.cpp and what is built on it read: ``qwen3`` or ``openelm``, F16 or
Q8_0.

The tokenizer goes along as llama.cpp's SentencePiece kind. It wants U+2581 for a space, so pieces
are written with it; a text that holds U+2581 itself is then read as if it held a space. Nor can
the file say that no text spells a control piece: llama.cpp's server finds `</s>` in a prompt.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType
from gguf.quants import quantize
from numpy.typing import NDArray

from tokenizer import special
from tokenizer.model import Tokenizer
from tokenizer.model_proto import Kind
from trainer.gguf_file import gguf_file
from trainer.model_files import Model
from trainer.shape import Shape

TYPES = {
    "f16": (LlamaFileType.MOSTLY_F16, GGMLQuantizationType.F16),
    "q8_0": (LlamaFileType.MOSTLY_Q8_0, GGMLQuantizationType.Q8_0),
}
BLOCK = 32
"""Values of a row that share a scale in Q8_0; rows of other lengths stay F16."""

SPACE = "\u2581"

NAMES = {
    "attention_norm": "attn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v",
    "o": "attn_output", "q_norm": "attn_q_norm", "k_norm": "attn_k_norm", "ffn_norm": "ffn_norm",
    "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
}  # fmt: skip

_KINDS = {
    Kind.NORMAL: TokenType.NORMAL,
    Kind.UNKNOWN: TokenType.UNKNOWN,
    Kind.CONTROL: TokenType.CONTROL,
    Kind.USER_DEFINED: TokenType.USER_DEFINED,
    Kind.UNUSED: TokenType.UNUSED,
    Kind.BYTE: TokenType.BYTE,
}


def export_gguf(model: Model, path: str, kind: str) -> None:
    """Write a model as one file, whole or not at all; ``kind`` is ``f16`` or ``q8_0``."""
    file_type, dtype = TYPES[kind]
    with gguf_file(path, model.shape) as writer:
        _add_shape(writer, model.shape, model.context)
        writer.add_file_type(file_type)
        _add_tokenizer(writer, model.tokenizer)
        for name, value in tensors(model).items():
            _add(writer, name, value, dtype)


def tensors(model: Model) -> dict[str, NDArray[Any]]:
    """The weights by GGUF's names, (out, in). Without an output layer, the embedding is it."""
    params = model.params
    found = {"token_embd.weight": params["embedding"], "output_norm.weight": params["norm"]}
    for number in range(len(model.shape.layers)):
        own = {name: params[f"layers.{number}.{name}"].T for name in NAMES}
        if not model.shape.uniform:
            fused = np.concatenate([own.pop(name) for name in ("q", "k", "v")])
            found[f"blk.{number}.attn_qkv.weight"] = fused
        found |= {f"blk.{number}.{NAMES[name]}.weight": value for name, value in own.items()}
    return found


def _add(writer: GGUFWriter, name: str, value: NDArray[Any], dtype: GGMLQuantizationType) -> None:
    value = np.ascontiguousarray(value, np.float32)
    if value.ndim == 1:
        writer.add_tensor(name, value)
    elif dtype is GGMLQuantizationType.Q8_0 and value.shape[1] % BLOCK == 0:
        writer.add_tensor(name, quantize(value, dtype), raw_dtype=dtype)
    else:
        writer.add_tensor(name, value.astype(np.float16))


def _add_shape(writer: GGUFWriter, shape: Shape, context: int) -> None:
    layers = shape.layers
    writer.add_context_length(context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(len(layers))
    if shape.uniform:
        writer.add_head_count(layers[0].heads)
        writer.add_head_count_kv(layers[0].kv_heads)
        writer.add_feed_forward_length(layers[0].hidden)
    else:
        writer.add_head_count([layer.heads for layer in layers])
        writer.add_head_count_kv([layer.kv_heads for layer in layers])
        writer.add_feed_forward_length([layer.hidden for layer in layers])
    writer.add_key_length(shape.head)
    writer.add_value_length(shape.head)
    writer.add_rope_dimension_count(shape.head)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_vocab_size(shape.vocabulary)


def _add_tokenizer(writer: GGUFWriter, tokenizer: Tokenizer) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([piece.replace(" ", SPACE) for piece in tokenizer.pieces])
    writer.add_token_scores(tokenizer.scores)
    writer.add_token_types([_KINDS[kind] for kind in tokenizer.kinds])
    writer.add_eos_token_id(special.EOS_ID)
    writer.add_unk_token_id(special.UNK_ID)
    writer.add_pad_token_id(special.PAD_ID)
    writer.add_mask_token_id(special.MASK_ID)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_remove_extra_whitespaces(False)
