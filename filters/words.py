"""Words, lines, paragraphs and sentences of a text, found once and shared by all rules.

Words are near to what spaCy's English tokenizer gives, which datatrove's rules were tuned with:
punctuation marks are tokens of their own, and a run of dots, a number with its points and commas
and a web address are one token each. Unlike spaCy, contractions stay whole (``don't``). Scripts written without spaces (Han,
kana, Thai, Lao, Khmer, Burmese) are cut into pairs of characters: a pair is about a word of Chinese
or Japanese, so counts of words mean the same as elsewhere, while lengths of words do not.
"""

from __future__ import annotations

import re
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
_NUMBER = r"\d+(?:[.,:]\d+)+"
_ADDRESS = r"https?://[^\s<>\"')\]]+|www\.[^\s<>\"')\]]+"
_PUNCTUATION = r"\.{2,}|[^\w\s]|_"
_SPACED_WORDS = re.compile(rf"{_ADDRESS}|{_NUMBER}|[^\W_]+(?:['’][^\W_]+)*|{_PUNCTUATION}")
_MIXED_WORDS = re.compile(
    rf"{_ADDRESS}|{_NUMBER}|[{_UNSPACED}]{{1,2}}|(?:[^\W_](?<![{_UNSPACED}]))+(?:['’](?:[^\W_](?<![{_UNSPACED}]))+)*"
    rf"|{_PUNCTUATION}"
)
_HAS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_STARTS_UNSPACED = re.compile(f"[{_UNSPACED}]").match
_PARAGRAPH = re.compile(r"\n{2,}")
_NEWLINES = re.compile(r"\n+")
_SENTENCE_END = re.compile(
    r"[.!?…؟।]+[\"'”’»)\]]*\s+(?=[^\sa-z])|[。！？]+[」』”’）]*(?=[^\s」』”’）])"
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
