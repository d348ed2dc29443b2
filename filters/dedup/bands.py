"""Locality-sensitive banding: candidates for near-duplicates from packed records.

A signature is cut into bands; documents that agree on a whole band are candidates (Leskovec,
Rajaraman and Ullman, "Mining of Massive Datasets", section 3.4). What is grouped are records of
16 bytes, packed, one for each document and band. A bucket of k documents gives k - 1 edges, a star
around its smallest reference, and so does a bucket of a million: connectivity is the same as with
all k (k - 1) / 2 pairs.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from filters.dedup.normalize import Hashes, mix, random_words
from filters.dedup.signatures import Signature

RECORD = np.dtype([("hash", "<u8"), ("ref", "<u8")])
"""A document in a bucket."""

EDGE = np.dtype([("member", "<u8"), ("root", "<u8")])
"""Two documents that share a bucket; ``root`` is the smallest reference in it."""


@functools.cache
def _row_multipliers(rows: int) -> Hashes:
    return random_words(rows, seed=3) | np.uint64(1)


@functools.cache
def _band_offsets(bands: int) -> Hashes:
    return random_words(bands, seed=4)


def band_hashes(signatures: Signature, bands: int, rows: int) -> Hashes:
    """One 64-bit hash a band, for one signature ``(n,)`` or many ``(documents, n)``.

    Numbers beyond ``bands * rows`` are not used. The band's number is part of its hash, so equal
    numbers in different bands never meet. Raises ValueError where a signature is too short.
    """
    used = bands * rows
    if signatures.shape[-1] < used:
        raise ValueError(
            f"{bands} bands of {rows} rows need {used} numbers; "
            f"the signature has {signatures.shape[-1]}"
        )
    cut = signatures[..., :used].reshape(*signatures.shape[:-1], bands, rows).astype(np.uint64)
    cut *= _row_multipliers(rows)
    hashes: Hashes = mix(mix(cut).sum(axis=-1, dtype=np.uint64) + _band_offsets(bands))
    return hashes


def records(hashes: Hashes, refs: Hashes) -> NDArray[np.void]:
    """``RECORD`` rows from hashes, ``(documents,)`` or ``(documents, bands)``, and references.

    Raises ValueError where there is not one reference a document.
    """
    if len(hashes) != len(refs):
        raise ValueError(f"{len(hashes)} rows of hashes for {len(refs)} references")
    found = np.empty(hashes.size, dtype=RECORD)
    found["hash"] = hashes.ravel()
    found["ref"] = np.repeat(refs, hashes.size // max(1, len(refs)))
    return found


def pack(hashes: Hashes, refs: Hashes) -> bytes:
    """``records`` as bytes."""
    return records(hashes, refs).tobytes()


def unpack(blobs: Iterable[bytes]) -> NDArray[np.void]:
    """Packed records as one array. Raises ValueError for a blob that is cut off."""
    return unpack_as(RECORD, blobs)


def unpack_as(dtype: np.dtype[np.void], blobs: Iterable[bytes]) -> NDArray[np.void]:
    """Blobs of records of one type as one array, each blob checked for whole records."""
    held = list(blobs)
    for blob in held:
        if len(blob) % dtype.itemsize:
            raise ValueError(
                f"a blob of {len(blob)} bytes does not hold whole records of "
                f"{dtype.itemsize} bytes: it was cut off or is of another kind"
            )
    return np.frombuffer(b"".join(held), dtype=dtype)


def partition_of(hashes: Hashes, partitions: int) -> NDArray[np.int64]:
    """The partition of each hash, from its high 32 bits; even for any number of partitions."""
    if not 1 <= partitions <= 2**31:
        raise ValueError(f"{partitions} partitions: give a number from 1 to {2**31}")
    high = hashes >> np.uint64(32)
    places: NDArray[np.int64] = ((high * np.uint64(partitions)) >> np.uint64(32)).astype(np.int64)
    return places


def partition(blob: bytes, partitions: int) -> dict[int, bytes]:
    """Packed records split by their hash: ``{partition: records}``, without empty partitions."""
    table = unpack([blob])
    return split(table, partition_of(table["hash"], partitions))


def split(table: NDArray[np.void], places: NDArray[np.int64]) -> dict[int, bytes]:
    """The rows of a table as one blob for each place; the order of rows is kept."""
    order = np.argsort(places, kind="stable")
    found, first = np.unique(places[order], return_index=True)
    ends = [*first[1:], len(order)][: len(found)]
    return {
        int(place): table[order[start:end]].tobytes()
        for place, start, end in zip(found, first, ends, strict=True)
    }


def star_edges(blobs: Iterable[bytes]) -> bytes:
    """The edges of all buckets in the blobs, packed, sorted and each once.

    All records of one hash must be in the blobs; their order does not matter.
    """
    table = unpack(blobs)
    if not len(table):
        return b""
    order = np.lexsort((table["ref"], table["hash"]))
    hashes, refs = table["hash"][order], table["ref"][order]
    begins = np.concatenate(([True], hashes[1:] != hashes[:-1]))
    first = np.flatnonzero(begins)
    roots = np.repeat(refs[first], np.diff(first, append=len(refs)))
    others = refs != roots
    members, roots = refs[others], roots[others]
    order = np.lexsort((roots, members))
    members, roots = members[order], roots[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (members[1:] != members[:-1]) | (roots[1:] != roots[:-1])
    edges = np.empty(int(new.sum()), dtype=EDGE)
    edges["member"], edges["root"] = members[new], roots[new]
    return edges.tobytes()
