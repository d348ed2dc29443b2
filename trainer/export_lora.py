"""Export of an adapter as GGUF, for llama.cpp to apply to a GGUF of its own base.

A file of type ``adapter`` with two factors for each weight by the name of the base's weight. The
layer-wise architecture keeps queries, keys and values in one matrix, so that their factors are
joined: A one below the other, B block by block.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gguf import GGUFType, Keys
from numpy.typing import NDArray

from trainer.export_gguf import NAMES
from trainer.gguf_file import gguf_file
from trainer.shape import Layer, Shape

Floats = NDArray[np.float32]
Factors = Mapping[str, tuple[Floats, Floats]]

FUSED = ("q", "k", "v")


def export_lora(path: str, shape: Shape, factors: Factors, scale: float) -> None:
    """Write an adapter as one file in 32 bits, whole or not at all.

    Args:
      shape: of the base.
      factors: by the name of a weight: A (rank, in) and B (out, rank), all of one rank.
      scale: what their products are multiplied by.
    """
    rank = next(len(a) for a, _ in factors.values())
    with gguf_file(path, shape) as writer:
        writer.add_type(GGUFType.ADAPTER)
        writer.add_string(Keys.Adapter.TYPE, "lora")
        writer.add_float32(Keys.Adapter.LORA_ALPHA, scale * rank)
        for name, (a, b) in lora_tensors(shape, factors, rank).items():
            writer.add_tensor(f"{name}.lora_a", np.ascontiguousarray(a, np.float32))
            writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(b, np.float32))


def lora_tensors(shape: Shape, factors: Factors, rank: int) -> dict[str, tuple[Floats, Floats]]:
    """The factors by GGUF's names of the base's weights, as llama.cpp scales them: by alpha over
    the rank of each."""
    found = {}
    for number, layer in enumerate(shape.layers):
        own = {name: factors.get(f"layers.{number}.{name}") for name in NAMES}
        if not shape.uniform:
            joined = _joined([own.pop(name) for name in FUSED], _rows(shape, layer))
            if joined is not None:
                a, b = joined
                found[f"blk.{number}.attn_qkv.weight"] = a, b * np.float32(len(a) / rank)
        for name, pair in own.items():
            if pair is not None:
                found[f"blk.{number}.{NAMES[name]}.weight"] = pair
    return found


def _rows(shape: Shape, layer: Layer) -> tuple[int, int, int]:
    keys = layer.kv_heads * shape.head
    return layer.heads * shape.head, keys, keys


def _joined(
    pairs: list[tuple[Floats, Floats] | None], rows: tuple[int, ...]
) -> tuple[Floats, Floats] | None:
    """One pair for maps of one input whose outputs stand behind each other; None changes none."""
    some = [pair for pair in pairs if pair is not None]
    if not some:
        return None
    joined = np.zeros((sum(rows), sum(len(a) for a, _ in some)), np.float32)
    row = column = 0
    for pair, count in zip(pairs, rows, strict=True):
        if pair is not None:
            joined[row : row + count, column : column + len(pair[0])] = pair[1]
            column += len(pair[0])
        row += count
    return np.concatenate([a for a, _ in some]), joined
