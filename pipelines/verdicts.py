"""What global stages say about the documents of one input, as packed rows.

Every global stage takes ``(input key, verdicts)`` and gives ``(input key, verdicts)``, one pair an
input, so that they chain like local stages while only hashes and counts cross a shuffle.
"""

from __future__ import annotations

from collections.abc import Iterable

import apache_beam as beam
import numpy as np
from numpy.typing import NDArray

EXACT, NEAR, CLUSTER, EXEMPT = 1, 2, 3, 4
"""Kinds of row: ``EXACT`` and ``NEAR`` duplicate of ``other`` (a document id) with Jaccard
similarity ``value``; ``CLUSTER``: ``value`` documents are duplicates of this one; ``EXEMPT``: the
first 8 bytes of ``other`` are the hash of an n-gram in common use, in ``value`` documents."""

VERDICT = np.dtype([("kind", "u1"), ("number", "<u4"), ("other", "V16"), ("value", "<f8")])

Keyed = tuple[str, bytes]
Verdicts = NDArray[np.void]


def rows(blob: bytes) -> Verdicts:
    """The rows of a packed blob."""
    return np.frombuffer(blob, dtype=VERDICT)


def pack(verdicts: Verdicts) -> bytes:
    """Rows as bytes, sorted, so that the same verdicts are the same bytes."""
    if not len(verdicts):
        return b""
    as_bytes = np.ascontiguousarray(verdicts).view(f"V{VERDICT.itemsize}")
    order = np.lexsort((as_bytes.view("S29").ravel(), verdicts["number"], verdicts["kind"]))
    return verdicts[order].tobytes()


def merge(key: str, blobs: Iterable[bytes]) -> Keyed:
    """All rows about one input as one blob."""
    return key, pack(rows(b"".join(blobs)).copy())


class MergeByInput(beam.PTransform):  # type: ignore[misc]
    """Several collections of ``(key, verdicts)`` into one pair an input.

    Each input has a pair in the first collection, so that none is lost for want of verdicts.
    """

    def expand(self, collections: tuple[beam.PCollection, ...]) -> beam.PCollection:
        return (
            collections
            | "Flatten" >> beam.Flatten()
            | "Group" >> beam.GroupByKey()
            | "Merge" >> beam.MapTuple(merge).with_output_types(Keyed)
        )
