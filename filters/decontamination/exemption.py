"""Common usage: benchmark n-grams that so many documents contain that they prove nothing.

The count is of different documents, after deduplication, and in a pass before any document is
decided on: counted along the way, the verdict would depend on the order of documents, and counted
before deduplication one mirrored page would exempt an item. AFM 2024, section 3.1, exempts n-grams
from 1000 collisions in a corpus of undisclosed size; ``rate`` scales with the corpus instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from filters.dedup.normalize import Hashes

COMMON_USAGE = 1000
"""Documents from which on an n-gram is common usage: AFM 2024, section 3.1."""


def count_hits(blobs: Iterable[bytes]) -> tuple[Hashes, NDArray[np.int64]]:
    """The different hashes in packed ``<u8`` arrays, sorted, and how often each occurs.

    With one blob of different hashes for each document these are document counts. Raises
    ValueError for a blob that is cut off.
    """
    held = list(blobs)
    for blob in held:
        if len(blob) % 8:
            raise ValueError(
                f"a blob of {len(blob)} bytes does not hold whole hashes of 8 bytes: it was "
                "cut off or is of another kind"
            )
    every = np.frombuffer(b"".join(held), dtype="<u8")
    hashes, counts = np.unique(every, return_counts=True)
    return hashes, counts.astype(np.int64)


def exempt(
    hashes: Hashes,
    counts: NDArray[np.int64],
    documents: int,
    threshold: int | None = COMMON_USAGE,
    rate: float | None = None,
) -> Hashes:
    """The hashes in common usage: in ``threshold`` documents, or the share ``rate`` of them.

    Where both are given either is enough; None turns one off. Raises ValueError for a threshold
    below 1 or a rate outside 0 to 1.
    """
    if threshold is not None and threshold < 1:
        raise ValueError(f"threshold is {threshold}: give a number of documents from 1 up")
    if rate is not None and not 0.0 < rate <= 1.0:
        raise ValueError(f"rate is {rate}: give a share of documents above 0 and up to 1")
    common = np.zeros(len(hashes), dtype=bool)
    if threshold is not None:
        common |= counts >= threshold
    if rate is not None:
        common |= counts >= max(1, math.ceil(rate * documents - 1e-9))
    return hashes[common]
