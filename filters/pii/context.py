"""What stands around a span: the word that says what a number is, or the URL it belongs to.

Bare digits say little. As in Presidio's context enhancement, words that stand before a number
raise it from a shape to an identifier; unlike it, a word must match whole, so that "pan" in
"company" is no evidence, and no language model is needed.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

REACH = 60
"""How many characters before a span are read for context: about the ten words before it."""

_URL_REACH = 300
_WORD = re.compile(r"\b\w+")
_UNSPACED = re.compile("[\u0e00-\u0e7f\u3040-\u9fff]")
_PART_OF_TOKEN = re.compile(r"[\w@%$€£¥#]$|[A-Za-z0-9][-.,:]$|[=/\\&?]$")
_TOKEN_GOES_ON = re.compile(r"[\w%@=]|[.,:][0-9]|-[0-9]")


@dataclass(frozen=True, slots=True)
class Words:
    """Words and phrases to look for, whole and in any case.

    Single words are looked up among the words of the text, which costs the same for one as for
    a hundred. Phrases, and words of scripts without spaces (Chinese, Japanese, Thai), are
    searched for.
    """

    single: frozenset[str]
    phrases: tuple[str, ...]
    joined: tuple[str, ...]

    def __or__(self, other: Words) -> Words:
        return Words(
            self.single | other.single, self.phrases + other.phrases, self.joined + other.joined
        )

    def occur(self, text: str, start: int, end: int) -> bool:
        """Whether any of them lies between ``start`` and ``end``."""
        if not self.single.isdisjoint(map(str.lower, _WORD.findall(text, start, end))):
            return True
        part = text[start:end].lower()
        if any(phrase in part and _whole(phrase).search(part) for phrase in self.phrases):
            return True
        return any(word in part for word in self.joined)


def words(entries: str) -> Words:
    """The words and phrases of ``entries``, which has commas between them."""
    listed = sorted({entry.strip().lower() for entry in entries.split(",")} - {""})
    joined = tuple(word for word in listed if _UNSPACED.search(word))
    spaced = [word for word in listed if word not in joined]
    single = frozenset(word for word in spaced if _WORD.fullmatch(word))
    return Words(single, tuple(word for word in spaced if word not in single), joined)


@functools.cache
def _whole(phrase: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(phrase)}(?!\w)")


def precedes(sought: Words, text: str, start: int, reach: int = REACH) -> bool:
    """Whether any word of ``sought`` occurs in the ``reach`` characters before ``start``."""
    return sought.occur(text, max(0, start - reach), start)


def stands_alone(text: str, start: int, end: int) -> bool:
    """Whether the span is a word of its own: no part of a price, a path, a key or a decimal."""
    before = text[max(0, start - 2) : start]
    return not _PART_OF_TOKEN.search(before) and not _TOKEN_GOES_ON.match(text, end)


def in_url(text: str, start: int) -> bool:
    """Whether the span lies inside a URL (the characters before it reach back to a scheme)."""
    floor = max(0, start - _URL_REACH)
    token = text[floor:start]
    cut = max(token.rfind(space) for space in " \n\t\u00a0\"'<>")
    token = token[cut + 1 :]
    return "://" in token or token.startswith("www.")
