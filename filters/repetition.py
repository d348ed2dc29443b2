"""Gopher's repetition rules (Rae et al. 2021, appendix A.1.1, table A1), as datatrove means them.

Only the *extra* copies of a line or paragraph count as duplicates (Dolma and DCLM count all
copies), and shares of characters are over all characters of the text. Repeated n-grams are found
from left to right, and a repeated one is skipped as a whole, so that no character counts twice.

Datatrove joins and hashes strings, n by n. Here tokens are numbered once, an n-gram is a pair of
numbers, and only places whose n-gram occurs again are visited. One thing differs: joined without
spaces, datatrove takes the n-grams ``a bc`` and ``ab c`` for the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
    """The n-grams that occur more than once, from words up to longer ones.

    An (n + 1)-gram is its first and its last n-gram, which overlap, and it can only occur twice
    where both do. So each step looks at the places that are left from the step before: most
    places of a text are gone after n = 3. Numbers stand for n-grams exactly; nothing is hashed.
    """

    def __init__(self, view: TextView) -> None:
        count = len(view.word_ids)
        self._starts = np.zeros(count + 1, dtype=np.int64)
        np.cumsum(view.word_lengths, out=self._starts[1:])
        # The n-grams' numbers by place, -1 where an n-gram occurs once.
        self._numbers = np.where(view.word_counts[view.word_ids] > 1, view.word_ids, -1)
        self._places = np.flatnonzero(self._numbers >= 0)
        self._counts = view.word_counts
        self._n = 1

    def _advance(self, n: int) -> None:
        """Go on to n-grams of ``n`` words."""
        while self._n < n and len(self._places):
            self._n += 1
            self._lengthen()
        self._n = n

    def _lengthen(self) -> None:
        places = self._places[: np.searchsorted(self._places, len(self._numbers) - 1)]
        places = places[self._numbers[places + 1] >= 0]
        pairs = self._numbers[places] * len(self._numbers) + self._numbers[places + 1]
        order = np.argsort(pairs, kind="stable")
        ordered = pairs[order]
        begins = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        counts = np.diff(begins, append=len(ordered)) if len(ordered) else begins[:0]
        numbers = np.empty_like(pairs)
        numbers[order] = np.repeat(np.arange(len(counts)), counts)
        again = counts[numbers] > 1
        self._numbers[:] = -1
        self._places = places[again]
        self._numbers[self._places] = numbers[again]
        self._counts = counts

    def _length(self, place: int, n: int) -> int:
        return int(self._starts[place + n] - self._starts[place])

    def top(self, n: int) -> int:
        """Characters of all occurrences of the most frequent n-gram, a space between its words.

        Of equally frequent n-grams the first in the text is taken. 0 where none occurs twice.
        """
        self._advance(n)
        if not len(self._places):
            return 0
        counts = self._counts[self._numbers[self._places]]
        first = int(counts.argmax())
        return (self._length(int(self._places[first]), n) + n - 1) * int(counts[first])

    def repeated(self, n: int) -> int:
        """Characters of n-grams that occurred before, taken from left to right."""
        self._advance(n)
        seen: set[int] = set()
        characters = free = 0
        numbers = self._numbers[self._places].tolist()
        for place, number in zip(self._places.tolist(), numbers, strict=True):
            if place < free:
                continue
            if number in seen:
                characters += self._length(place, n)
                free = place + n
            else:
                seen.add(number)
        return characters
