"""Gopher's document quality rules (Rae et al. 2021, appendix A.1.1), as datatrove means them.

Where the paper speaks of words, datatrove takes tokens: the share of alphabetic words is over all
tokens, punctuation included, while the count and length of words leave punctuation out. Dolma
takes the median length of words, DCLM counts repeated stop words; here it is the mean, and
different stop words.
"""

from __future__ import annotations

from filters.document import Value
from filters.signal import Bound, Signal
from filters.stop_words import STOP_WORDS
from filters.words import TextView

_PAPER = "Gopher (Rae et al. 2021), appendix A.1.1; datatrove's meaning"

SIGNALS: tuple[Signal, ...] = (
    Signal(
        "gopher.word_count",
        "int",
        "words",
        "words with a letter or digit; scripts without spaces count pairs of characters",
        _PAPER,
        Bound(min=50, max=100_000),
    ),
    Signal(
        "gopher.mean_word_length",
        "float",
        "characters",
        "mean length of such words; not measured where most are in a script without spaces",
        _PAPER + " (Dolma: the median)",
        Bound(min=3, max=10),
    ),
    Signal(
        "gopher.symbol_ratio_hash",
        "float",
        "ratio",
        "hash signs over all tokens",
        _PAPER,
        Bound(max=0.1),
    ),
    Signal(
        "gopher.symbol_ratio_ellipsis",
        "float",
        "ratio",
        "ellipses over all tokens",
        _PAPER,
        Bound(max=0.1),
    ),
    Signal(
        "gopher.bullet_line_ratio",
        "float",
        "ratio",
        "lines that begin with a bullet (•, -) over all lines",
        _PAPER,
        Bound(max=0.9),
    ),
    Signal(
        "gopher.ellipsis_line_ratio",
        "float",
        "ratio",
        "lines that end in an ellipsis over all lines",
        _PAPER,
        Bound(max=0.3),
    ),
    Signal(
        "gopher.alphabetic_word_ratio",
        "float",
        "ratio",
        "tokens with a letter over all tokens, punctuation marks included",
        _PAPER + " (Dolma and the paper: over words)",
        Bound(min=0.8),
    ),
    Signal(
        "gopher.stop_words",
        "int",
        "words",
        "different function words of the document's language; not measured in languages without "
        "a list",
        _PAPER + "; lists other than English are ours",
        Bound(min=2),
    ),
)

BULLETS = ("•", "-")
ELLIPSES = ("...", "…")


def measure(view: TextView, language: str) -> dict[str, Value]:
    """All signals of a text. An empty text has count 0 and ratios 0, and no mean length."""
    text, words, plain = view.text, view.words, view.plain_words
    tokens = len(words) or 1
    lines = view.lines
    line_count = len(lines) or 1
    spaced = plain and view.unspaced_share <= 0.5
    stop_words = STOP_WORDS.get(language)
    return {
        "gopher.word_count": len(plain),
        "gopher.mean_word_length": sum(map(len, plain)) / len(plain) if spaced else None,
        "gopher.symbol_ratio_hash": text.count("#") / tokens,
        "gopher.symbol_ratio_ellipsis": (text.count("...") + text.count("…")) / tokens,
        "gopher.bullet_line_ratio": sum(line.lstrip().startswith(BULLETS) for line in lines)
        / line_count,
        "gopher.ellipsis_line_ratio": sum(line.rstrip().endswith(ELLIPSES) for line in lines)
        / line_count,
        "gopher.alphabetic_word_ratio": sum(map(_has_letter, words)) / tokens,
        "gopher.stop_words": None
        if stop_words is None
        else len(stop_words.intersection(word.lower() for word in plain)),
    }


def _has_letter(word: str) -> bool:
    # Most words are letters throughout; only the others are looked at one by one.
    return word.isalpha() or any(character.isalpha() for character in word)
