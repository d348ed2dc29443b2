"""A shuffled order of n things that is computed and not stored.

A Feistel network over the next power of four, with cycle walking to stay below n (Black and
Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002, section 4). It is for shuffling, not
for secrecy.
"""

from __future__ import annotations

import hashlib

ROUNDS = 6
_MASK = (1 << 64) - 1


class Permutation:
    """A permutation of 0 to ``size`` - 1, chosen by a key."""

    def __init__(self, size: int, key: str) -> None:
        self._size = size
        bits = max(2, (size - 1).bit_length())
        self._half = (bits + 1) // 2
        self._low = (1 << self._half) - 1
        digest = hashlib.blake2b(key.encode(), digest_size=8 * ROUNDS).digest()
        self._keys = [int.from_bytes(digest[8 * n : 8 * n + 8], "little") for n in range(ROUNDS)]

    def __getitem__(self, place: int) -> int:
        """What stands at a place. Raises ``IndexError`` for a place that is not there."""
        if not 0 <= place < self._size:
            raise IndexError(f"place {place} of {self._size}")
        while True:
            place = self._encrypt(place)
            if place < self._size:
                return place

    def _encrypt(self, value: int) -> int:
        left, right = value >> self._half, value & self._low
        for key in self._keys:
            left, right = right, left ^ (_mix(right ^ key) & self._low)
        return left << self._half | right


def _mix(value: int) -> int:
    """The finalizer of SplitMix64 (Steele et al., OOPSLA 2014)."""
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & _MASK
    return value ^ value >> 31
