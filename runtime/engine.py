"""What takes tokens through a model: in C (``runtime.native``) or in numpy (``runtime.plain``).

Both give the same numbers, bit for bit, whatever else is in a call: products are of whole numbers,
and floats are added in one order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence as Listed
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.cache import BITS, Sequence
from runtime.file import CiderFileError, Contents
from runtime.layout import padded

CAPACITY = 256
"""Tokens of one call."""

MAX_CONTEXT = 1 << 20

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
Steps = Listed[tuple[Sequence, list[int]]]
"""Sequences, and the ids that each goes on with."""


@dataclass
class Step:
    """Arrays of one call. ``logits`` has a row for each of ``output_rows``; what is None is not
    asked for."""

    ids: I32
    positions: I32
    output_rows: I32
    logits: F32
    hidden: F32 | None = None
    targets: I32 | None = None
    nats: F32 | None = None
    first: NDArray[np.uint8] | None = None


class Engine(ABC):
    """One model, ready to run. Not for two threads at a time: ``runtime.model`` holds a lock."""

    capacity = CAPACITY

    def __init__(self, contents: Contents, *, context: int, cache_bits: int) -> None:
        if not 1 <= context <= MAX_CONTEXT:
            raise ValueError(f"a context of {context} tokens; it must be from 1 to {MAX_CONTEXT}")
        if cache_bits not in BITS:
            raise ValueError(f"a cache of {cache_bits} bits; it must be of 16 or 8")
        self.contents, self.context, self.cache_bits = contents, context, cache_bits
        shape = contents.shape
        self.query_factor = np.float32(1 / np.sqrt(shape.head))
        self.cos, self.sin = turns(context, shape.head, shape.rope_base)

    @property
    @abstractmethod
    def name(self) -> str:
        """What the numbers are computed with."""

    @abstractmethod
    def _forward(self, steps: Steps, job: Step) -> None:
        """Fill the outputs of ``job``; the sequences have grown already."""

    def logits(self, steps: Steps, *, every: bool = False) -> F32:
        """Go on with sequences; the logits of what follows.

        Args:
          steps: sequences, none twice, and the ids that each goes on with, at least one.
          every: a row for each id; else one for each sequence's last.

        Returns:
          (rows, vocabulary).

        Raises:
          CiderFileError: they are not finite: the model's numbers overflow.
        """
        found = []
        for part, last in self._parts(steps):
            rows: list[int] = []
            place = 0
            for (_, ids), is_last in zip(part, last, strict=True):
                place += len(ids)
                rows += range(place - len(ids), place) if every else [place - 1] * is_last
            job = self._step(part, np.array(rows, np.int32))
            self._forward(part, job)
            found.append(self._finite(job.logits[:, : self.contents.shape.vocabulary]))
        return np.concatenate(found)

    def hidden(self, steps: Steps) -> F32:
        """Go on with sequences; what the last norm gives for each id: (ids, width).

        Raises:
          CiderFileError: as of ``logits``.
        """
        found = []
        for part, _ in self._parts(steps):
            job = self._step(part, np.zeros(0, np.int32))
            job.hidden = np.empty((len(job.ids), self.contents.shape.width), np.float32)
            self._forward(part, job)
            found.append(self._finite(job.hidden))
        return np.concatenate(found)

    def nats(self, steps: Steps, targets: Listed[list[int]]) -> tuple[F32, NDArray[np.bool_]]:
        """Go on with sequences; how unlikely each target is, and whether it was the likeliest.

        Args:
          targets: for each id of each sequence the one that follows it, or -1 for none.

        Returns:
          Two of (ids,), those without a target 0.

        Raises:
          CiderFileError: as of ``logits``.
        """
        flat = np.array([number for own in targets for number in own], np.int32)
        nats, first, place = [], [], 0
        for part, _ in self._parts(steps):
            job = self._step(part, np.zeros(0, np.int32))
            count = len(job.ids)
            job.targets = flat[place : place + count].copy()
            job.nats, job.first = np.zeros(count, np.float32), np.zeros(count, np.uint8)
            self._forward(part, job)
            nats.append(self._finite(job.nats))
            first.append(job.first)
            place += count
        return np.concatenate(nats), np.concatenate(first).astype(np.bool_)

    def _parts(self, steps: Steps) -> list[tuple[Steps, list[bool]]]:
        """Calls of at most ``capacity`` tokens; for each sequence whether it ends there."""
        parts: list[tuple[list[tuple[Sequence, list[int]]], list[bool]]] = []
        room = 0
        vocabulary = self.contents.shape.vocabulary
        for sequence, ids in steps:
            if not ids:
                raise ValueError("a sequence goes on with no token")
            if min(ids) < 0 or max(ids) >= vocabulary:
                raise ValueError(f"a token that is not of the vocabulary, 0 to {vocabulary - 1}")
            if len(sequence) + len(ids) > self.context:
                raise ValueError(
                    f"{len(sequence) + len(ids)} tokens; the context is {self.context}: load the "
                    "model with a longer one"
                )
            left = ids
            while left:
                if not room:
                    parts.append(([], []))
                    room = self.capacity
                now, left = left[:room], left[room:]
                parts[-1][0].append((sequence, now))
                parts[-1][1].append(not left)
                room -= len(now)
        return list(parts)

    def _finite(self, found: F32) -> F32:
        if not np.isfinite(found).all():
            raise CiderFileError(
                f"{self.contents.path}: what this model computes is not finite, its weights or "
                "those of its adapter are too large; quantize a model that has not diverged"
            )
        return found

    def _step(self, steps: Steps, rows: I32) -> Step:
        """Grow the sequences, and lay out the arrays of a call."""
        positions = []
        for sequence, ids in steps:
            positions.append(np.arange(len(sequence), len(sequence) + len(ids), dtype=np.int32))
            sequence.grow(ids)
        flat = np.array([number for _, ids in steps for number in ids], np.int32)
        logits = np.empty((len(rows), padded(self.contents.shape.vocabulary)), np.float32)
        return Step(flat, np.concatenate(positions), rows, logits)


def turns(positions: int, head: int, base: float) -> tuple[F32, F32]:
    """Cosine and sine of rotary positions (RoFormer, arXiv 2104.09864, section 3.2.2).

    The angles are rounded to 32 bits as the trainer's are, their sines are those of 64 bits.

    Returns:
      Two of (positions, head // 2).
    """
    frequencies = (base ** (-np.arange(0, head, 2, dtype=np.float64) / head)).astype(np.float32)
    angles = (np.arange(positions, dtype=np.float32)[:, None] * frequencies).astype(np.float64)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
