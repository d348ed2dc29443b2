"""Bits per byte of documents, whole and by paragraph: how unlikely a quantized model finds them.

A byte costs the same whatever tokenizer cut it. The model has no token before a document's first,
so that token is given: its bytes are not counted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.model import WINDOW, Model
from tokenizer.model import Tokenizer
from tokenizer.overlap import Scored

EMPTY_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
NEWLINES = re.compile(r"\n+")
DIGITS = 4
"""Decimals of bits per byte: the last bits of a float may differ between processors."""


@dataclass(frozen=True)
class Part:
    """Characters ``start`` to ``end`` of a text, the bits of the tokens that begin there, and the
    bytes of these tokens; of a text's first token neither counts."""

    start: int
    end: int
    bits: float
    bytes: int

    @property
    def per_byte(self) -> float | None:
        """Bits per byte, rounded; None where no byte counts."""
        return round(self.bits / self.bytes, DIGITS) if self.bytes else None


@dataclass(frozen=True)
class Measured:
    """A text as a whole, how many of its tokens count, and its paragraphs: they are parted by empty
    lines, or in a text without any by newlines, and a break belongs to what is before it."""

    whole: Part
    tokens: int
    paragraphs: tuple[Part, ...]


def measure(model: Model, texts: Sequence[str], *, window: int = WINDOW) -> list[Measured]:
    """Bits and bytes of texts. Those of one token or none have no byte that counts.

    What is found for a text does not depend on the others, nor on the number of threads. A lone
    surrogate, which no UTF-8 can hold, counts as U+FFFD.

    Args:
      window: tokens that the model sees at a time, see ``Model.score``.
    """
    clean = [_clean(text) for text in texts]
    ids = [model.tokenizer.encode(text).tolist() for text in clean]
    scores = model.score_ids(ids, window=window)
    return [
        _measured(model.tokenizer, text, own, scored)
        for text, own, scored in zip(clean, ids, scores, strict=True)
    ]


def cut(text: str, most: int) -> str:
    """The beginning of a text: whole characters, of at most so many bytes."""
    # A character has at least a byte; so a long text is not encoded as a whole.
    return _clean(text[:most]).encode()[:most].decode("utf-8", "ignore")


def _clean(text: str) -> str:
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _measured(tokenizer: Tokenizer, text: str, ids: list[int], scored: Scored) -> Measured:
    sizes = tokenizer.byte_lengths[ids]
    counted = sizes[1:]
    bits = scored.nats.astype(np.float64) / math.log(2)
    starts = paragraph_starts(text)
    owners = np.searchsorted(_byte_offsets(text, starts), np.cumsum(sizes)[:-1], "right") - 1
    # Both add one number after the other, in the same order everywhere.
    own_bits = np.bincount(owners, bits, len(starts))
    own_bytes = np.bincount(owners, counted, len(starts))
    rows = zip(starts, [*starts[1:], len(text)], own_bits.tolist(), own_bytes.tolist(), strict=True)
    paragraphs = tuple(Part(start, end, found, int(size)) for start, end, found, size in rows)
    whole = Part(0, len(text), math.fsum(bits.tolist()), int(counted.sum()))
    return Measured(whole, len(bits), paragraphs)


def paragraph_starts(text: str) -> list[int]:
    """The characters at which the paragraphs of a text begin; the first is 0."""
    breaks = [found.end() for found in EMPTY_LINES.finditer(text)]
    if not breaks:
        breaks = [found.end() for found in NEWLINES.finditer(text)]
    return [0, *(place for place in breaks if place < len(text))]


def _byte_offsets(text: str, places: Sequence[int]) -> NDArray[np.int64]:
    """Bytes before each of some rising places, which are in characters."""
    sizes = [
        len(text[start:end].encode())
        for start, end in zip([0, *places], places, strict=False)
    ]  # fmt: skip
    return np.cumsum(np.array(sizes, np.int64))
