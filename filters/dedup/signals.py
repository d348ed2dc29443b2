"""The signals of deduplication."""

from __future__ import annotations

from filters.signal import Bound, Signal

SIGNALS: tuple[Signal, ...] = (
    Signal(
        "dedup.exact",
        "int",
        "flag",
        "1 where a preferred document has the same content hash, else 0; whitespace does not count",
        "BLAKE2b-128 of the text with runs of whitespace as one space",
        Bound(max=0),
    ),
    Signal(
        "dedup.jaccard",
        "float",
        "ratio",
        "estimated Jaccard similarity with the kept document this is a near-duplicate of, else 0; "
        "1 for an exact duplicate",
        "MinHash (Broder 1997) over 5-word shingles; 14 bands of 8 as in FineWeb; the bound .75 "
        "is verified against the kept document and not inherited through chains",
        Bound(max=0.75),
    ),
    Signal(
        "dedup.duplicates",
        "int",
        "documents",
        "how many documents were found to be duplicates of this one",
        "the size of the cluster less one, as FineWeb-2 keeps it",
    ),
)
