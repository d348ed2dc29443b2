"""Gopher's document quality rules (Rae et al. 2021, appendix A.1.1), as datatrove means them.

Where the paper speaks of words, datatrove takes tokens: the share of alphabetic words is over all
tokens, punctuation included, which makes that bound much stricter than over words, while the count
and length of words leave punctuation out. Dolma takes the median length of words, DCLM counts
repeated stop words; here it is the mean, and different stop words.

The bound of 0.8 on that share fits English (clean prose of FLORES-200 measures 0.88, as French and
Spanish do). German measures 0.85, Russian 0.82, Chinese 0.82, Zulu 0.81, Lithuanian 0.80, and
Maltese, which hyphenates its articles, 0.74: recipes for other languages should ask less.

Two things are not datatrove's, because they follow from how it is written and not from the rule:
its list of punctuation lacks symbols such as ``•`` and ``€``, so that it counts them as words; and
it compares stop words with capitals, so that ``The`` is none.
"""

from __future__ import annotations

import numpy as np

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
        "words, punctuation left out; scripts without spaces are cut into pieces of about a word",
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
        _PAPER + " (without regard to capitals); lists other than English are ours",
        Bound(min=2),
    ),
)

BULLETS = ("•", "-")
ELLIPSES = ("...", "…")


def measure(view: TextView, language: str) -> dict[str, Value]:
    """All signals of a text, ``language`` being its ISO 639-1 code.

    An empty text has counts and ratios 0 and no mean length.
    """
    text, lines = view.text, view.lines
    tokens = len(view.words) or 1
    line_count = len(lines) or 1
    bullets = sum(line.lstrip().startswith(BULLETS) for line in lines)
    ellipses = sum(line.rstrip().endswith(ELLIPSES) for line in lines)
    return {
        "gopher.word_count": view.plain_word_count,
        "gopher.mean_word_length": _mean_word_length(view),
        "gopher.symbol_ratio_hash": text.count("#") / tokens,
        "gopher.symbol_ratio_ellipsis": (text.count("...") + text.count("…")) / tokens,
        "gopher.bullet_line_ratio": bullets / line_count,
        "gopher.ellipsis_line_ratio": ellipses / line_count,
        "gopher.alphabetic_word_ratio": _alphabetic_words(view) / tokens,
        "gopher.stop_words": _stop_words(view, language),
    }


def _mean_word_length(view: TextView) -> float | None:
    if not view.plain_word_count or view.unspaced_share > 0.5:
        return None
    plain = view.is_plain
    characters = view.word_counts[plain] @ view.vocabulary_lengths[plain]
    return int(characters) / view.plain_word_count


def _alphabetic_words(view: TextView) -> int:
    """Tokens with a letter."""
    with_letter = (word.isalpha() or any(map(str.isalpha, word)) for word in view.vocabulary)
    mask = np.fromiter(with_letter, np.bool_, len(view.vocabulary))
    return int(view.word_counts[mask].sum())


def _stop_words(view: TextView, language: str) -> int | None:
    known = STOP_WORDS.get(language)
    return None if known is None else len(known.intersection(map(str.lower, view.vocabulary)))
