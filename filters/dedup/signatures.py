"""MinHash signatures and content hashes: what deduplication keeps of a text.

A signature estimates the Jaccard similarity of two documents' sets of 5-word shingles (Broder,
"On the resemblance and containment of documents", 1997). Defaults are those of FineWeb and
datatrove: 5 words, 112 hash functions as 14 bands of 8, which propose a pair of similarity .75
with probability .77 and one of similarity .8 with .92.

The hash functions are ``a * x + b`` modulo 2^32 with odd ``a`` on a mixed 32-bit ``x``: the scheme
``affine32`` of datasketch 2.0, with other constants. Each is a bijection, so that the step adds no
collisions, and modulo 2^32 is what the machine's multiplication does, so that nothing wraps that
should not.
"""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from filters.dedup.normalize import find_words, random_words
from filters.dedup.shingles import LONGEST, shingle_hashes

Signature = NDArray[np.uint32]

BLOCK = 1024
"""Shingles taken at a time: 112 x 1024 products of 4 bytes stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class SignatureParams:
    """How signatures are made; only signatures of equal parameters can be compared.

    ``ngram`` is the shingle size in words; a signature has ``bands * rows`` numbers. A document of
    fewer than ``min_shingles`` different shingles has no signature and takes part in exact
    deduplication only. With 5-word shingles, one changed word in the middle of a document of 20
    shingles leaves a similarity of .6, so that below it nothing but near-exact copies is found.
    """

    ngram: int = 5
    bands: int = 14
    rows: int = 8
    min_shingles: int = 20
    seed: int = 1

    def __post_init__(self) -> None:
        bounds = {
            "ngram": (1, LONGEST),
            "bands": (1, 1024),
            "rows": (1, 256),
            "min_shingles": (1, 10**6),
            "seed": (0, 2**31 - 1),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}: give a number from {low} to {high}")

    @property
    def permutations(self) -> int:
        """How many numbers a signature has."""
        return self.bands * self.rows


def content_hash(text: str) -> bytes:
    """16 bytes that are equal for texts equal up to whitespace (BLAKE2b).

    Runs of whitespace count as one space and the ends are stripped; case, punctuation and
    digits count. Everything looser is left to the near-duplicate stage, which shows evidence.
    """
    content = " ".join(text.split()).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(content, digest_size=16).digest()


def shingle_set(text: str, params: SignatureParams) -> NDArray[np.uint32]:
    """The sorted different shingles of a text as 32-bit hashes.

    Case, punctuation and the digits of numbers are folded: see ``normalize``.
    """
    words = find_words(text, fold_digits=True)
    high = (shingle_hashes(words.hashes, params.ngram) >> np.uint64(32)).astype(np.uint32)
    high.sort()
    if len(high) < 2:
        return high
    return high[np.concatenate(([True], high[1:] != high[:-1]))]


def signature(text: str, params: SignatureParams | None = None) -> Signature | None:
    """The MinHash signature of a text, or None where it has fewer than ``min_shingles``."""
    params = params or SignatureParams()
    shingles = shingle_set(text, params)
    if len(shingles) < params.min_shingles:
        return None
    return minhash(shingles, params)


def minhash(shingles: NDArray[np.uint32], params: SignatureParams) -> Signature:
    """The minimum of each hash function over the shingles.

    Raises ValueError for an empty set, which has no minimum.
    """
    if not len(shingles):
        raise ValueError("no shingles to take a minimum of: check for an empty set first")
    factors, offsets = permutations(params)
    mixed = mix32(shingles)
    lowest = np.full(params.permutations, 0xFFFFFFFF, dtype=np.uint32)
    for first in range(0, len(mixed), BLOCK):
        images = factors * mixed[first : first + BLOCK]
        images += offsets
        np.minimum(lowest, images.min(axis=1), out=lowest)
    return lowest


@functools.cache
def permutations(params: SignatureParams) -> tuple[Signature, Signature]:
    """The factors (odd) and offsets of the hash functions, as columns."""
    numbers = random_words(2 * params.permutations, seed=params.seed << 8)
    halves = (numbers >> np.uint64(32)).astype(np.uint32).reshape(2, -1, 1)
    return halves[0] | np.uint32(1), halves[1]


def mix32(values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """MurmurHash3's 32-bit finalizer, a bijection."""
    values = values ^ (values >> np.uint32(16))
    values *= np.uint32(0x85EBCA6B)
    values ^= values >> np.uint32(13)
    values *= np.uint32(0xC2B2AE35)
    values ^= values >> np.uint32(16)
    return values


def estimate_jaccard(one: Signature, other: Signature) -> float:
    """The share of equal numbers: an estimate of the Jaccard similarity.

    Its standard deviation at similarity s is sqrt(s (1 - s) / permutations): .04 at .8 with 112.
    Raises ValueError where the signatures differ in length.
    """
    if one.shape != other.shape:
        raise ValueError(
            f"signatures of {one.size} and {other.size} numbers cannot be compared: "
            "make both with the same parameters"
        )
    return float(np.mean(one == other))


def candidate_probability(similarity: float, bands: int, rows: int) -> float:
    """The probability that two documents share a band: ``1 - (1 - s^r)^b``."""
    return 1.0 - math.pow(1.0 - math.pow(similarity, rows), bands)


@functools.cache
def choose_bands(threshold: float, count: int, *, recall_weight: float = 0.5) -> tuple[int, int]:
    """Bands and rows of at most ``count`` numbers for a similarity threshold.

    Minimizes the weighted areas of false positives below the threshold and false negatives above
    it, as datasketch does; ``recall_weight`` is the weight of false negatives. Takes some
    seconds for hundreds of numbers.
    """
    if not 0.0 < threshold < 1.0:
        raise ValueError(f"threshold is {threshold}: give a similarity between 0 and 1")
    if not 1 <= count <= 1024:
        raise ValueError(f"count is {count}: give a number of hash functions from 1 to 1024")
    if not 0.0 <= recall_weight <= 1.0:
        raise ValueError(f"recall_weight is {recall_weight}: give a number from 0 to 1")
    from datasketch.lsh import _optimal_param

    bands, rows = _optimal_param(threshold, count, 1.0 - recall_weight, recall_weight)
    return int(bands), int(rows)
