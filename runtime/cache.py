"""Keys and values of what a model has read: blocks of 64 tokens through all layers.

A block that is full never changes again, so that sequences with the same beginning share it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from runtime.adapters import LoadedAdapter
from runtime.shape import Shape

BLOCK = 64
"""Tokens of a block."""

BITS = (16, 8)
"""Of a number in the cache: IEEE half precision, or whole numbers with a scale a head and token."""


def part_bytes(head: int, bits: int) -> int:
    """Bytes of one head's keys (or values) in a block."""
    return head * BLOCK + 4 * BLOCK if bits == 8 else head * BLOCK * 2


def block_bytes(shape: Shape, bits: int) -> int:
    """Bytes of a block: for each layer and key-value head keys, then values."""
    heads = sum(layer.kv_heads for layer in shape.layers)
    return heads * 2 * part_bytes(shape.head, bits)


def new_block(shape: Shape, bits: int) -> NDArray[np.uint8]:
    """An empty block, at a multiple of 64 bytes."""
    size = block_bytes(shape, bits)
    room = np.zeros(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size]


@dataclass
class Sequence:
    """What was read of one text: its ids, the blocks that hold their keys and values, and the
    adapter that these were computed with."""

    shape: Shape
    bits: int
    ids: list[int] = field(default_factory=list)
    blocks: list[NDArray[np.uint8]] = field(default_factory=list)
    adapter: LoadedAdapter | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def grow(self, ids: list[int]) -> None:
        """Make room for ids, whose keys and values the engine is about to write."""
        self.ids.extend(ids)
        while len(self.blocks) * BLOCK < len(self.ids):
            self.blocks.append(new_block(self.shape, self.bits))

    def beginning(self, length: int) -> Sequence:
        """A sequence of the first ``length`` tokens: full blocks are shared, the last is copied."""
        blocks = self.blocks[: -(-length // BLOCK)]
        if length % BLOCK:
            copy = new_block(self.shape, self.bits)
            copy[:] = blocks[-1]
            blocks = [*blocks[:-1], copy]
        return Sequence(self.shape, self.bits, self.ids[:length], blocks, self.adapter)


def shared(a: list[int], b: list[int]) -> int:
    """How many ids both begin with."""
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return count
