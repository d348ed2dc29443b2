"""Hashes of strings that are the same in every process and on every machine."""

from __future__ import annotations

import hashlib


def hash64(text: str) -> int:
    """A 64-bit hash (BLAKE2b) of a string."""
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
