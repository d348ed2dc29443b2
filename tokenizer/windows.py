"""Windows of token sequences that lie side by side, each a segment of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenizer.packing import pack
from tokenizer.reader import Batch
from tokenizer.special import PAD_ID


def side_by_side(rows: Sequence[Sequence[NDArray[Any]]], length: int) -> Batch:
    """A batch as ``tokenizer.reader`` gives it: a window for each row, with its sequences back to
    back and padding behind them.

    Args:
      rows: sequences of ids; those of a row have at most ``length`` in all.
    """
    shape = (len(rows), length)
    batch = {
        "tokens": np.full(shape, PAD_ID, np.int32),
        "segments": np.zeros(shape, np.int32),
        "positions": np.zeros(shape, np.int32),
    }
    for row, pieces in enumerate(rows):
        start = 0
        for number, piece in enumerate(pieces, 1):
            end = start + len(piece)
            batch["tokens"][row, start:end] = piece
            batch["segments"][row, start:end] = number
            batch["positions"][row, start:end] = np.arange(len(piece))
            start = end
    return batch


def share_windows(lengths: NDArray[Any], length: int) -> list[list[int]]:
    """Which sequences, by number, lie in a window together, so that there are few windows (best
    fit); none may be longer than a window."""
    packed = pack(lengths, length, "best-fit")
    members = np.split(packed.pieces["document"].astype(np.int64), packed.starts[1:-1])
    return [own.tolist() for own in members] if packed.windows else []
