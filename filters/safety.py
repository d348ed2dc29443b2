"""Safety: a weighted lexicon of profanity, and a fastText classifier of toxic comments.

The lexicon sees words, the classifier sees how they are used; neither reads meaning. A page is
judged by the density of listed words and by its most toxic windows; see ``models/safety.md``.
A word can be vile in one language and plain in another ("cum" is "with" in Latin, "slut" is
"end" in Swedish), so a text is held against the words of its own language and those that are the
same everywhere.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from filters.document import Value
from filters.fasttext_model import probability, windows
from filters.model_text import tokens
from filters.signal import Bound, Signal

LANGUAGES = ("en",)
"""Languages the classifier judges."""
LEXICONS = ("ar", "de", "en", "es", "fr", "it", "ja", "nl", "pl", "pt", "ru", "tr", "zh")
"""Languages that have a lexicon; in others only words that are the same everywhere count."""
UNSPACED = ("ja", "zh")
WINDOW, MOST_WINDOWS = 50, 12
TOP_SHARE = 4
SEVERE = 3
MIN_WORDS = 200
MIN_DISGUISED = 4

_LEXICON_SOURCE = "own lexicon, data/safety_lexicon.tsv"

SIGNALS: tuple[Signal, ...] = (
    Signal(
        "safety.lexicon_hits",
        "int",
        "words",
        "words of the text that stand in the lexicon",
        _LEXICON_SOURCE,
    ),
    Signal("safety.severe_hits", "int", "words", "such words of the highest weight",
           _LEXICON_SOURCE),
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
)  # fmt: skip

_WORD = re.compile(r"[@$]?[^\W_]+(?:[*@$!]+[^\W_]+)*[*@$]*")
_PLAIN = re.compile(r"[^\W_]+")
_SIGN = re.compile(r"[*@$!]")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")
_REPEATED = re.compile(r"(.)\1{2,}")
_DIGITS = str.maketrans({"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a",
                         "$": "s", "!": "i"})  # fmt: skip


class Entry(NamedTuple):
    """What the lexicon says of a word."""

    weight: int
    category: str


class Hits(NamedTuple):
    """What was found in a text: hits by category, their weights in sum, hits of the highest
    weight, and the words of the text in all."""

    categories: Counter[str]
    weight: int
    severe: int
    words: int


@dataclass(frozen=True)
class Lexicon:
    """The words that count in one language. ``shapes`` holds strong words by length and first
    letter, to look up masked ones such as ``f**k``; ``inside`` finds the words of unspaced
    scripts, which are not in ``spaced``."""

    entries: dict[str, Entry]
    spaced: dict[str, Entry]
    shapes: dict[tuple[int, str], list[str]]
    inside: re.Pattern[str] | None

    def find(self, word: str) -> Entry | None:
        """The entry of a case-folded word of a text, or ``None``.

        The word is taken as it stands; then with letters repeated three times or more written
        once or twice; or with digits and signs read as the letters they imitate, or ``*`` as any
        letter. Disguises are looked for in strong words of four letters and more only: shorter
        ones meet road numbers, hexadecimals and pointers (``a55``, ``char*``).
        """
        found = self.spaced.get(word)
        if found is not None or word.isdigit():
            return found
        if word.isalpha():
            if _REPEATED.search(word) is None:
                return None
            return self.spaced.get(_REPEATED.sub(r"\1", word)) or self.spaced.get(
                _REPEATED.sub(r"\1\1", word)
            )
        if len(word) < MIN_DISGUISED:
            return None
        if "*" in word:
            return self._masked(word)
        found = self.spaced.get(word.translate(_DIGITS))
        return found if found is not None and found.weight > 1 else None

    def _masked(self, word: str) -> Entry | None:
        if word.endswith("*") and not word.endswith("**"):
            return None
        for listed in self.shapes.get((len(word), word[0]), ()):
            if all(seen in ("*", meant) for seen, meant in zip(word, listed, strict=True)):
                return self.spaced[listed]
        return None


@functools.cache
def _rows() -> tuple[tuple[str, str, Entry], ...]:
    """Language, case-folded word and entry of all that is listed."""
    resource = importlib.resources.files("filters") / "data" / "safety_lexicon.tsv"
    lines = (line for line in resource.read_text("utf-8").splitlines() if not line.startswith("#"))
    return tuple(
        (language, word.casefold(), Entry(int(weight), category))
        for language, weight, category, words in (line.split("\t") for line in lines)
        for word in words.split()
    )


@functools.cache
def _load(languages: tuple[str, ...]) -> Lexicon:
    entries = {word: entry for language, word, entry in _rows() if language in languages}
    unspaced = sorted((w for w in entries if _UNSPACED.fullmatch(w)), key=lambda w: (-len(w), w))
    spaced = {word: entry for word, entry in entries.items() if not _UNSPACED.fullmatch(word)}
    shapes: dict[tuple[int, str], list[str]] = {}
    for word, entry in spaced.items():
        if entry.weight > 1 and len(word) >= MIN_DISGUISED:
            shapes.setdefault((len(word), word[0]), []).append(word)
    inside = re.compile("|".join(map(re.escape, unspaced))) if unspaced else None
    return Lexicon(entries, spaced, shapes, inside)


def lexicon(language: str | None) -> Lexicon:
    """The lexicon of a language, of none (``""`` or one without a list), or of all (``None``)."""
    if language is None:
        return _load((*LEXICONS, "any"))
    return _load((language, "any") if language in LEXICONS else ("any",))


def lexicon_hits(text: str, language: str | None) -> Hits:
    """What the lexicon of ``language`` (``None``: all of them) finds in a text.

    Two Chinese or Japanese characters in a row count as one of the words in all.
    """
    known = lexicon(language)
    folded = text.casefold()
    # Most texts have none of the signs and few odd words: only those are looked at one by one.
    counts = Counter((_WORD if _SIGN.search(folded) else _PLAIN).findall(folded))
    stretched = _REPEATED.search(" ".join(counts)) is not None
    odd = counts if stretched else (word for word in counts if not word.isalpha())
    entries = {word: known.spaced[word] for word in counts if word in known.spaced}
    entries |= {word: entry for word in odd if (entry := known.find(word)) is not None}
    found = [(entry, counts[word]) for word, entry in entries.items()]
    words = sum(counts.values())
    if known.inside is not None:
        runs = _UNSPACED.findall(folded)
        hits = Counter(hit for run in runs for hit in known.inside.findall(run))
        found += [(known.entries[word], count) for word, count in hits.items()]
        if language in UNSPACED:
            words += sum(map(len, runs)) // 2
    categories: Counter[str] = Counter()
    for entry, count in found:
        categories[entry.category] += count
    return Hits(
        categories,
        sum(entry.weight * count for entry, count in found),
        sum(count for entry, count in found if entry.weight >= SEVERE),
        words,
    )


def measure(text: str, language: str) -> dict[str, Value]:
    """All signals of a text. The classifier judges English only."""
    hits = lexicon_hits(text, language)
    return {
        "safety.lexicon_hits": sum(hits.categories.values()),
        "safety.severe_hits": hits.severe,
        "safety.lexicon_weight": round(1000 * hits.weight / max(MIN_WORDS, hits.words), 4),
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


def evidence(text: str, language: str | None = None) -> str:
    """How many words of each category were found: not the words. Without a language, words of
    every lexicon count."""
    categories = lexicon_hits(text, language).categories
    return ", ".join(f"{name} {count}" for name, count in sorted(categories.items()))
