"""Gopher's repetition rules (Rae et al. 2021, appendix A.1.1, table A1), as datatrove means them.

Only the *extra* copies of a line or paragraph count as duplicates (Dolma and DCLM count all
copies), and shares of characters are over all characters of the text. Repeated n-grams are found
from left to right, and a repeated one is skipped as a whole, so that no character counts twice.

Datatrove joins and hashes strings, n by n. Here tokens are numbered once, n-grams are 64-bit
combinations of numbers found by sorting, and only positions whose n-gram occurs again are visited.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from filters.document import Value
from filters.signal import Bound, Signal
from filters.words import TextView

_PAPER = "Gopher (Rae et al. 2021), table A1; datatrove's meaning"
_COPIES = _PAPER + " (Dolma, DCLM: all copies count)"

TOP_BOUNDS = {2: 0.20, 3: 0.18, 4: 0.16}
DUPLICATE_BOUNDS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}

SIGNALS: tuple[Signal, ...] = (
    *(
        Signal(f"repetition.duplicate_{part}_{what}", "float", "ratio", meaning, _COPIES, bound)
        for part, what, meaning, bound in (
            (
                "line",
                "fraction",
                "lines that repeat an earlier one over all lines",
                Bound(max=0.3),
            ),
            (
                "line",
                "char_fraction",
                "characters of lines that repeat an earlier one, over all characters",
                Bound(max=0.2),
            ),
            (
                "paragraph",
                "fraction",
                "paragraphs that repeat an earlier one, over all paragraphs",
                Bound(max=0.3),
            ),
            (
                "paragraph",
                "char_fraction",
                "characters of paragraphs that repeat an earlier one, over all characters",
                Bound(max=0.2),
            ),
        )
    ),
    *(
        Signal(
            f"repetition.top_{n}gram_char_fraction",
            "float",
            "ratio",
            f"characters of all occurrences of the most frequent {n}-gram, over all characters; 0 "
            "where none occurs twice",
            _PAPER + " (which counts an n-gram that occurs once as well)",
            Bound(max=bound),
        )
        for n, bound in TOP_BOUNDS.items()
    ),
    *(
        Signal(
            f"repetition.duplicate_{n}gram_char_fraction",
            "float",
            "ratio",
            f"characters of {n}-grams that occurred before, none counted twice, over all "
            "characters",
            _PAPER,
            Bound(max=bound),
        )
        for n, bound in DUPLICATE_BOUNDS.items()
    ),
)


def measure(view: TextView) -> dict[str, Value]:
    """All signals of a text; 0 for an empty one."""
    characters = len(view.text) or 1
    lines, line_characters = duplicates(view.line_blocks)
    paragraphs, paragraph_characters = duplicates(view.paragraphs)
    signals: dict[str, Value] = {
        "repetition.duplicate_line_fraction": lines / len(view.line_blocks),
        "repetition.duplicate_line_char_fraction": line_characters / characters,
        "repetition.duplicate_paragraph_fraction": paragraphs / len(view.paragraphs),
        "repetition.duplicate_paragraph_char_fraction": paragraph_characters / characters,
    }
    grams = _NGrams(view)
    for n in TOP_BOUNDS:
        signals[f"repetition.top_{n}gram_char_fraction"] = grams.top(n) / characters
    for n in DUPLICATE_BOUNDS:
        signals[f"repetition.duplicate_{n}gram_char_fraction"] = grams.repeated(n) / characters
    return signals


def duplicates(parts: Sequence[str]) -> tuple[int, int]:
    """How many parts repeat an earlier one, and their characters."""
    if len(set(parts)) == len(parts):
        return 0, 0
    seen: set[str] = set()
    count = characters = 0
    for part in parts:
        if part in seen:
            count += 1
            characters += len(part)
        else:
            seen.add(part)
    return count, characters


class _NGrams:
    """The n-grams of a text's tokens as 64-bit numbers, built up from n to n + 1."""

    def __init__(self, view: TextView) -> None:
        # A multiplication by an odd constant and a shift spread small numbers over 64 bits.
        spread = (view.word_ids + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        self._tokens = spread ^ (spread >> np.uint64(29))
        self._grams = self._tokens
        self._n = 1
        self._ends = np.concatenate(([0], np.cumsum(view.word_lengths)))

    def _hashes(self, n: int) -> NDArray[np.uint64]:
        while self._n < n and len(self._grams):
            step = self._n
            self._grams = self._grams[:-1] * np.uint64(0xD6E8FEB86659FD93) + self._tokens[step:]
            self._grams ^= self._grams >> np.uint64(32)
            self._n += 1
        return self._grams if self._n == n else self._grams[:0]

    def _length(self, place: int, n: int) -> int:
        return int(self._ends[place + n] - self._ends[place])

    def top(self, n: int) -> int:
        """Characters of all occurrences of the most frequent n-gram, a space between its words.

        Of equally frequent n-grams the first in the text is taken.
        """
        hashes = self._hashes(n)
        if not len(hashes):
            return 0
        _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
        most = int(counts.max())
        if most < 2:
            return 0
        place = int(first[counts == most].min())
        return (self._length(place, n) + n - 1) * most

    def repeated(self, n: int) -> int:
        """Characters of n-grams that occurred before, taken from left to right."""
        hashes = self._hashes(n)
        if not len(hashes):
            return 0
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        same = ordered[1:] == ordered[:-1]
        if not same.any():
            return 0
        again = np.concatenate(([False], same)) | np.concatenate((same, [False]))
        seen: set[int] = set()
        characters = free = 0
        places = np.sort(order[again])
        for place, value in zip(places.tolist(), hashes[places].tolist(), strict=True):
            if place < free:
                continue
            if value in seen:
                characters += self._length(place, n)
                free = place + n
            else:
                seen.add(value)
        return characters
