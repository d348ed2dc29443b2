"""Exact duplicates: documents of one content hash, and which of them is kept."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from filters.dedup.bands import unpack_as

CONTENT = np.dtype(
    [
        ("content", "V16"),
        ("ref", "<u8"),
        ("id", "V16"),
        ("source_rank", "<u2"),
        ("length", "<u4"),
    ]
)
"""What is known of a document when duplicates are looked for: 46 bytes."""

EXACT_DUPLICATE = np.dtype([("ref", "<u8"), ("keeper_ref", "<u8"), ("keeper", "V16")])
"""A document that is removed, and the one that is kept in its place (reference and id)."""


def preference_keys(members: NDArray[np.void]) -> tuple[NDArray[np.generic], ...]:
    """Keys for ``np.lexsort`` that put what is kept first: the least significant key first.

    Earlier sources win, then longer texts, then smaller ids (as bytes); the reference settles
    ties between equal ids.
    """
    high, low = id_keys(members["id"])
    longest_first = np.uint64(0xFFFFFFFF) - members["length"].astype(np.uint64)
    return members["ref"], low, high, longest_first, members["source_rank"]


def id_keys(ids: NDArray[np.void]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Identifiers of 16 bytes as two numbers that sort as their bytes do."""
    halves = np.ascontiguousarray(ids).view(">u8").reshape(-1, 2).astype(np.uint64)
    return halves[:, 0], halves[:, 1]


def exact_groups(blobs: Iterable[bytes]) -> NDArray[np.void]:
    """The documents to remove, sorted by reference, with the one kept of the same content.

    ``blobs`` are packed ``CONTENT`` records; all records of one content must be among them.
    """
    table = unpack_as(CONTENT, blobs)
    high, low = id_keys(table["content"])
    table = table[np.lexsort((*preference_keys(table), low, high))]
    content = np.stack(id_keys(table["content"]), axis=1)
    begins = np.ones(len(table), dtype=bool)
    begins[1:] = (content[1:] != content[:-1]).any(axis=1)
    first = np.flatnonzero(begins)
    keeper = np.repeat(first, np.diff(first, append=len(table)))
    removed = np.flatnonzero(~begins)
    found = np.empty(len(removed), dtype=EXACT_DUPLICATE)
    found["ref"] = table["ref"][removed]
    found["keeper_ref"] = table["ref"][keeper[removed]]
    found["keeper"] = table["id"][keeper[removed]]
    return found[np.argsort(found["ref"], kind="stable")]
