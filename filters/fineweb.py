"""FineWeb's own quality rules (Penedo et al. 2024, section 3.6), as datatrove means them.

A document on the bound itself stays, as in datatrove 0.10; in the paper and in datatrove's first
version of 2024 it goes, and there blank lines are lines. That version took quotation marks for
ends of lines and knew no marks of other scripts; today's knows all of Unicode's marks, but no
quotation marks. Here both end a line: the bound was found with quotation marks, and dialogue is
prose. Space after the mark is overlooked.
"""

from __future__ import annotations

from filters.document import Value
from filters.repetition import duplicates
from filters.signal import Bound, Signal
from filters.words import CLOSING_QUOTES, MARKS, TextView

_PAPER = "FineWeb (Penedo et al. 2024), section 3.6; datatrove's meaning"

SIGNALS: tuple[Signal, ...] = (
    Signal(
        "fineweb.line_punct_ratio",
        "float",
        "ratio",
        "lines that end in a terminal mark of any script or a closing quotation mark, over all "
        "lines that are not blank",
        _PAPER + " and, for quotation marks, that of its first version",
        Bound(min=0.12),
    ),
    Signal(
        "fineweb.short_line_ratio",
        "float",
        "ratio",
        "lines of at most 30 characters, over all lines that are not blank",
        _PAPER,
        Bound(max=0.67),
    ),
    Signal(
        "fineweb.char_dup_ratio",
        "float",
        "ratio",
        "characters of lines that repeat an earlier one, over all characters but newlines",
        _PAPER + " (the paper's bound is 0.1, the code's 0.01)",
        Bound(max=0.01),
    ),
    Signal(
        "fineweb.newline_ratio",
        "float",
        "newlines a word",
        "newlines over tokens",
        "datatrove (FineWebQualityFilter); not in the paper",
        Bound(max=0.3),
    ),
)

SHORT_LINE = 30
LINE_ENDS = MARKS + CLOSING_QUOTES


def measure(view: TextView) -> dict[str, Value]:
    """All signals of a text. A text without a filled line has ratios 0."""
    lines = view.filled_lines
    count = len(lines) or 1
    characters = len(view.text) - view.text.count("\n")
    ended = sum(line.rstrip().endswith(LINE_ENDS) for line in lines)
    return {
        "fineweb.line_punct_ratio": ended / count,
        "fineweb.short_line_ratio": sum(len(line) <= SHORT_LINE for line in lines) / count,
        "fineweb.char_dup_ratio": duplicates(lines)[1] / (characters or 1),
        "fineweb.newline_ratio": view.text.count("\n") / (len(view.words) or 1),
    }
