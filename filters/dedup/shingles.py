"""Shingles: the hashes of all runs of ``n`` words of a text."""

from __future__ import annotations

import functools

import numpy as np

from filters.dedup.normalize import Hashes, random_words

LONGEST = 64
"""The largest ``n`` for which there are multipliers."""


@functools.cache
def place_multipliers() -> Hashes:
    """One odd multiplier for each place in a run of words."""
    return random_words(LONGEST, seed=2) | np.uint64(1)


def shingle_hashes(words: Hashes, n: int) -> Hashes:
    """The 64-bit hash of each run of ``n`` words, in order; none where there are fewer words.

    Multilinear modulo 2^64 in the words' hashes, which are mixed already: of the result the high
    bits are the good ones. Raises ValueError for ``n`` outside 1 to ``LONGEST``.
    """
    if not 1 <= n <= LONGEST:
        raise ValueError(f"shingles of {n} words: give a number from 1 to {LONGEST}")
    count = len(words) - n + 1
    if count < 1:
        return np.empty(0, dtype=np.uint64)
    places = place_multipliers()
    total: Hashes = words[:count] * places[0]
    for place in range(1, n):
        total += words[place : place + count] * places[place]
    return total
