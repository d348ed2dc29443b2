"""FineWeb's own quality rules (Penedo et al. 2024, section 3.6), as datatrove implements them."""

from __future__ import annotations

from filters.document import Value
from filters.repetition import duplicates
from filters.signal import Bound, Signal
from filters.words import TextView

_PAPER = "FineWeb (Penedo et al. 2024), section 3.6; datatrove's meaning"

SIGNALS: tuple[Signal, ...] = (
    Signal(
        "fineweb.line_punct_ratio",
        "float",
        "ratio",
        "lines that end in a terminal mark of any script, over all lines that are not blank",
        _PAPER,
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
        _PAPER,
        Bound(max=0.01),
    ),
    Signal(
        "fineweb.newline_ratio",
        "float",
        "newlines a word",
        "newlines over tokens",
        _PAPER,
        Bound(max=0.3),
    ),
)

SHORT_LINE = 30
TERMINAL = (
    ".", "!", "?", '"', "'", "…", "”", "’", "»", "。", "！", "？", "．", "｡", "」", "』", "）", "؟",
    "۔", "।", "॥", "։", "።", "፧", "፨", "។", "៕", "။", "༎", "᙮", "᠃", "᠉", "‼", "‽", "⁇", "⁈", "⁉",
)  # fmt: skip


def measure(view: TextView) -> dict[str, Value]:
    """All signals of a text. A text without a filled line has ratios 0."""
    lines = view.filled_lines
    count = len(lines) or 1
    characters = len(view.text) - view.text.count("\n")
    return {
        "fineweb.line_punct_ratio": sum(line.rstrip().endswith(TERMINAL) for line in lines) / count,
        "fineweb.short_line_ratio": sum(len(line) <= SHORT_LINE for line in lines) / count,
        "fineweb.char_dup_ratio": duplicates(lines)[1] / (characters or 1),
        "fineweb.newline_ratio": view.text.count("\n") / (len(view.words) or 1),
    }
