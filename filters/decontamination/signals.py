"""The signal of decontamination."""

from __future__ import annotations

from filters.signal import Bound, Signal

SIGNALS: tuple[Signal, ...] = (
    Signal(
        "decontamination.ngrams",
        "int",
        "n-grams",
        "different n-grams of benchmark items in the document that are not in common usage; "
        "n is 13 words, or the length of an item of 4 to 12 words",
        "AFM 2024, section 3.1 (4-13-gram collisions, common usage from 1000); n by item as in "
        "GPT-3, appendix C",
        Bound(max=0),
    ),
)
