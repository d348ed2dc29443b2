"""Words, lines, paragraphs and sentences of a text, found once and shared by all rules.

Words are near to what spaCy's English tokenizer gives, which datatrove's rules were tuned with:
punctuation marks are tokens of their own; a run of dots, a number with its points and commas, and
a web address are one token each. Unlike spaCy, contractions stay whole (``don't``). Combining
marks and joiners belong to the letter before them, as in हिन्दी. Scripts written without spaces
(Han, kana, Thai, Lao, Khmer, Burmese) are cut into pairs of characters: a pair is about a word of
Chinese or Japanese, so counts of words mean the same as elsewhere, while lengths of words do not.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003fffd"
)
# Python's \w has no combining marks. Those above U+FFFF are left out: they would slow every
# match down, for scripts that are next to absent from the web.
_JOINING = "\u00ad\u200c\u200d" + "".join(
    mark for mark in map(chr, range(0x300, 0x10000)) if unicodedata.category(mark)[0] == "M"
)
_NUMBER = r"\d+(?:[.,:]\d+)+"
_PUNCTUATION = r"\.{2,}|[^\w\s]|_"


def _tokens(not_in_words: str) -> re.Pattern[str]:
    """One token: a web address, a number with points, a word, or a mark.

    The full stop or comma after an address is not part of it. No two ways lead to one match, so
    that the time is linear in the text.
    """
    address = rf"[^\s<>\"'”’»)\]、。，！？）」』】{not_in_words}]"
    letter = rf"[^\W_{not_in_words}]"
    return re.compile(
        rf"(?:https?://|www\.){address}*(?<=[^.,:;!?])(?<!://)"
        rf"|{_NUMBER}"
        rf"|{letter}+(?:[{_JOINING}]+{letter}*|['’]{letter}+)*"
        + (rf"|[{not_in_words}]{{1,2}}" if not_in_words else "")
        + rf"|{_PUNCTUATION}"
    )


_SPACED_WORDS = _tokens("")
_MIXED_WORDS = _tokens(_UNSPACED)
_HAS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_STARTS_UNSPACED = re.compile(f"[{_UNSPACED}]").match
_PARAGRAPH = re.compile(r"\n{2,}")
_NEWLINES = re.compile(r"\n+")
# Marks are taken as whole runs (the look-behinds, the possessive ++): a page of dot leaders would
# take time quadratic in its dots otherwise.
_SENTENCE_END = re.compile(
    r"(?<![.!?…؟।])[.!?…؟।]++[\"'”’»)\]]*+\s++(?=[^a-z])"
    r"|(?<![。！？])[。！？]++[」』”’）]*+(?=\S)"
)


class TextView:
    """A text with its parts, each found at first use.

    ``words`` are all tokens, punctuation included; ``plain_words`` only those with a letter or
    digit. Lone parts of an empty text are empty lists.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def words(self) -> list[str]:
        """Tokens in order, punctuation included."""
        if _HAS_UNSPACED.search(self.text):
            return _MIXED_WORDS.findall(self.text)
        return _SPACED_WORDS.findall(self.text)

    @cached_property
    def plain_words(self) -> list[str]:
        """Tokens with a letter or a digit: datatrove's non-symbol words."""
        return [word for word in self.words if word[0].isalnum() or _STARTS_UNSPACED(word)]

    @cached_property
    def unspaced_share(self) -> float:
        """Share of plain words that are pairs of an unspaced script."""
        if not self.plain_words or not _HAS_UNSPACED.search(self.text):
            return 0.0
        count = sum(_STARTS_UNSPACED(word) is not None for word in self.plain_words)
        return count / len(self.plain_words)

    @cached_property
    def lines(self) -> list[str]:
        """Lines as ``str.splitlines`` gives them, empty ones included."""
        return self.text.splitlines()

    @cached_property
    def filled_lines(self) -> list[str]:
        """Lines between newlines that are not blank, as they stand."""
        return [line for line in self.text.split("\n") if line.strip()]

    @cached_property
    def line_blocks(self) -> list[str]:
        """The text split at runs of newlines: the lines of the repetition rules."""
        return _NEWLINES.split(self.text)

    @cached_property
    def paragraphs(self) -> list[str]:
        """The stripped text split at blank lines."""
        return _PARAGRAPH.split(self.text.strip())

    @cached_property
    def sentences(self) -> int:
        """Number of sentences, each line beginning one (see ``count_sentences``)."""
        return sum(count_sentences(line) for line in self.filled_lines)

    @cached_property
    def word_ids(self) -> NDArray[np.uint64]:
        """A number for each token: equal tokens have equal numbers, by first appearance."""
        known: dict[str, int] = {}
        ids = [known.setdefault(word, len(known)) for word in self.words]
        return np.array(ids, dtype=np.uint64)

    @cached_property
    def word_lengths(self) -> NDArray[np.int64]:
        """Characters of each token."""
        return np.fromiter(map(len, self.words), dtype=np.int64, count=len(self.words))


def count_sentences(line: str) -> int:
    """Sentences in one line: ends within it, and one more for the rest; 0 for a blank line.

    A full stop ends a sentence before white space and anything but a small Latin letter, so that
    ``e.g. this`` does not; in Chinese and Japanese the mark is enough.
    """
    line = line.strip()
    return len(_SENTENCE_END.findall(line)) + 1 if line else 0
