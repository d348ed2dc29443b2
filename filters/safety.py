"""Safety: a weighted lexicon of profanity, and a fastText classifier of toxic comments.

The lexicon sees words, the classifier sees how they are used; neither reads meaning. A page is
judged by the density of listed words and by its most toxic windows; see ``models/safety.md``.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
from collections import Counter
from dataclasses import dataclass

from filters.document import Value
from filters.fasttext_model import probability, windows
from filters.model_text import tokens
from filters.signal import Bound, Signal

LANGUAGES = ("en",)
WINDOW, MOST_WINDOWS = 50, 12
TOP_SHARE = 4
SEVERE = 3

SIGNALS: tuple[Signal, ...] = (
    Signal(
        "safety.lexicon_hits",
        "int",
        "words",
        "words of the text that stand in the lexicon",
        "own lexicon, data/safety_lexicon.tsv",
    ),
    Signal(
        "safety.severe_hits",
        "int",
        "words",
        "such words of the highest weight",
        "own lexicon, data/safety_lexicon.tsv",
    ),
    Signal(
        "safety.lexicon_weight",
        "float",
        "weight per 1000 words",
        "sum of the weights (1 to 3) of listed words per 1000 words of text, texts of fewer than "
        "200 words counted as 200",
        "weighted phrase lists as content filters use them; own weights",
        Bound(max=15.0),
    ),
    Signal(
        "safety.toxicity",
        "float",
        "probability",
        "mean toxicity of the most toxic quarter of windows of 50 words; English only",
        "own fastText model, models/safety.md",
        Bound(max=0.9),
    ),
)

_WORD = re.compile(r"[@$]?[^\W_]+(?:[*@$!]+[^\W_]+)*[*@$]*")
_REPEATED = re.compile(r"(.)\1{2,}")
_DIGITS = str.maketrans({"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a",
                         "$": "s", "!": "i"})  # fmt: skip
MIN_WORDS = 200


@dataclass(frozen=True)
class Lexicon:
    """Words with weight and category. ``masked`` maps patterns such as ``f**k`` to words."""

    entries: dict[str, tuple[int, str]]
    shapes: frozenset[tuple[int, str, str]]

    def find(self, word: str) -> tuple[int, str] | None:
        """Weight and category of a word of a text, or ``None``.

        The word is taken as it stands; then with digits and signs read as the letters they
        imitate; then, where letters are masked by ``*``, by its first and last letter and length.
        """
        found = self.entries.get(word)
        if found is not None:
            return found
        if word.isalpha():
            if _REPEATED.search(word) is None:
                return None
            return self.entries.get(_REPEATED.sub(r"\1", word)) or self.entries.get(
                _REPEATED.sub(r"\1\1", word)
            )
        if "*" in word and word[0].isalpha():
            mask = (len(word), word[0], word[-1] if word[-1].isalpha() else "")
            return (2, "masked") if mask in self.shapes else None
        if any(c.isalpha() for c in word):
            return self.entries.get(word.translate(_DIGITS))
        return None


@functools.cache
def lexicon() -> Lexicon:
    """The lexicon that ships with the package."""
    text = (importlib.resources.files("filters") / "data" / "safety_lexicon.tsv").read_text("utf-8")
    entries: dict[str, tuple[int, str]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            weight, category, words = line.split("\t")
            entries.update({word: (int(weight), category) for word in words.split()})
    masked = [word for word, (weight, _) in entries.items() if weight >= 2 and 4 <= len(word) <= 8]
    shapes = frozenset((len(w), w[0], end) for w in masked for end in (w[-1], ""))
    return Lexicon(entries, shapes)


def lexicon_hits(text: str) -> tuple[Counter[str], int, int, int]:
    """Hits by category, their weights in sum, hits of the highest weight, and words in all."""
    known = lexicon()
    categories: Counter[str] = Counter()
    weight = severe = 0
    words = Counter(_WORD.findall(text.casefold()))
    for word, count in words.items():
        found = known.find(word)
        if found is not None:
            categories[found[1]] += count
            weight += found[0] * count
            severe += count if found[0] >= SEVERE else 0
    return categories, weight, severe, sum(words.values())


def measure(text: str, language: str) -> dict[str, Value]:
    """All signals of a text. The classifier judges English only."""
    categories, weight, severe, words = lexicon_hits(text)
    return {
        "safety.lexicon_hits": sum(categories.values()),
        "safety.severe_hits": severe,
        "safety.lexicon_weight": round(1000 * weight / max(MIN_WORDS, words), 4),
        "safety.toxicity": toxicity(text) if language in LANGUAGES else None,
    }


def toxicity(text: str) -> float | None:
    """Mean toxicity of the most toxic quarter of a text's windows, or ``None`` without words."""
    words = tokens(text)
    if not words:
        return None
    parts = windows(words, WINDOW, MOST_WINDOWS)
    scores = sorted((probability("safety", part, "toxic") for part in parts), reverse=True)
    top = scores[: max(1, len(scores) // TOP_SHARE)]
    return round(sum(top) / len(top), 4)


def evidence(text: str) -> str:
    """How many words of each category were found: not the words."""
    categories = lexicon_hits(text)[0]
    return ", ".join(f"{name} {count}" for name, count in sorted(categories.items()))
