"""Words, lines, paragraphs and sentences of a text, found once and shared by all rules.

**Words** are near to the tokens of spaCy's English tokenizer, with which datatrove's rules were
tuned: a punctuation mark is a token of its own; a run of dots or hyphens, a number with its points
and commas, a date, a web or mail address, an ``@name`` and an initialism (``U.S.``) are one token;
``it's`` is two, ``it`` and ``'s``. (spaCy parts ``do n't``, here it is ``don 't``; and it knows
lists of abbreviations and units.) Combining marks and joiners belong to the letter before them, as
in हिन्दी; characters that only format are no tokens.

**Scripts without spaces** show no words without a dictionary. Runs of Han and kana are cut into
pairs of letters, runs of Thai, Lao, Khmer and Burmese into threes of letters with their marks (so
is Tibetan, where that makes about a syllable). Dictionary tokenizers find 1.7 to 1.8 letters a word
in Chinese and Japanese, 2.2 (Burmese) to 3.8 (Thai) in the others, so *counts* of words mean about
the same as elsewhere and bounds on them can stay; *lengths* of such words mean nothing, and rules
on length leave them out. A run is cut from its beginning: a phrase that comes again after a mark or
a space is cut equally, one that comes again within a run may not be, and goes unseen by rules on
repeated n-grams.

**Sentences** are counted, not parsed (``count_sentences``).
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

MARKS = tuple(
    ".!?։؞؟۔܀܁܂߹।॥၊။።፧፨᙮។៕᠃᠉᥄᥅᪨᪩᪪᪫᭚᭛᭞᭟᰻᰼᱾᱿‼‽⁇⁈⁉⳹⳺⳻⸮⸼。꓿꘎꘏꛳꛷꡶꡷꣎꣏꤯꧈꧉꩝꩞꩟꫰꫱꯫︒︕︖﹒﹖﹗！．？｡།༎"
)
"""Marks that end a sentence: Unicode's property Sentence_Terminal without historic scripts, as in
datatrove's ``TERMINAL_PUNCTUATION``, and the Tibetan shad, which Unicode leaves out."""

CLOSING_QUOTES = ('"', "'", "”", "’", "»", "」", "』")
"""Quotation marks: a line that ends in one has ended in a mark, as in C4 and FineWeb."""


def _char_class(first: int, last: int, kinds: str) -> str:
    """The inside of a regular expression's class: characters whose category begins so."""
    return "".join(
        re.escape(chr(code))
        for code in range(first, last + 1)
        if unicodedata.category(chr(code))[0] in kinds
    )


# Python's \w has no combining marks. Those above U+FFFF are left out but for Adlam's: they would
# slow down every word of every text.
_JOINED = _char_class(0x300, 0xFFFF, "M") + "\U0001e944-\U0001e94a" + "\u00ad\u200c\u200d"

# Characters that only format, among them the zero-width space of Khmer and the variation selectors
# of emoji, and the Tibetan mark between syllables: no tokens.
_IGNORED = (
    "\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069"
    "\ufe00-\ufe0f\ufeff\u0f0b\u0f0c"
)

_PAIRED = (
    _char_class(0x3005, 0x30FF, "LN")
    + "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_IN_THREES = "".join(
    _char_class(first, last, "L")
    for first, last in ((0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF))
)
_UNSPACED = _PAIRED + _IN_THREES


def _word_pattern(letter: str, unspaced: str) -> re.Pattern[str]:
    """One token. Repetitions are possessive or can end in one way only, so time is linear."""
    address = r"[^\s<>\"'”’»)\]、。，！？）」』】]"
    clitic = r"['’](?:[dmstDMST]|ll|re|ve|LL|RE|VE)\b"
    return re.compile(
        # Most words of most texts, spared the attempts at all else.
        r"[a-z]++(?=[ ,\n])"
        # The full stop or comma after an address is not part of it.
        rf"|(?=[hw\d])(?:(?:https?://|www\.){address}+(?<![.,:;!?])|\d++(?:[.,:/–]\d++)++)"
        r"|(?:[A-Z]\.)+|(?:[a-z]\.){2,}" + unspaced + "|"
        rf"@?{letter}+(?:[_@]{letter}+|(?!{clitic})['’]{letter}+|\.(?=[a-z]){letter}+"
        rf"|[{_JOINED}]+{letter}*)*"
        rf"|(?<=\w){clitic}|\.{{2,}}|-{{2,}}|[^\w\s{_IGNORED}]|_"
    )


_SPACED_WORD = _word_pattern(r"[^\W_]", "")
_MIXED_WORD = _word_pattern(
    rf"[^\W_{_UNSPACED}]",
    rf"|(?:[{_PAIRED}][{_JOINED}]*){{1,2}}|(?:[{_IN_THREES}][{_JOINED}]*){{1,3}}",
)
_UNSPACED_LETTER = re.compile(f"[{_UNSPACED}]")

_PARAGRAPH_BREAK = re.compile(r"\n{2,}")
_NEWLINES = re.compile(r"\n+")

_CLOSING = "\"'”’»)\\]」』）】》〉"
_SMALL = "a-zß-öø-ÿα-ωа-яё"
_OTHER_MARKS = "".join(mark for mark in MARKS if mark not in ".!?")
_THAI_LAO = "\u0e01-\u0e4e\u0e81-\u0ecd"
# Marks are taken as whole runs (look-behind, possessive ``*+``): a page of dot leaders would take
# time quadratic in its dots otherwise. Marks that also stand in numbers, addresses and
# abbreviations end a sentence before a space only.
_SPACED_END = re.compile(
    r"[.!?…](?<![.!?…]{2})(?<!\b[A-Z]\.)(?<!\b[DMS]r\.)(?<!\bM[rs]s\.)(?<!\bMs\.)(?<!\bSt\.)"
    rf"[.!?…]*+[{_CLOSING}]*+[^\S\n]++(?=[^\s{_SMALL}])"
)
_UNSPACED_END = re.compile(
    rf"[{_OTHER_MARKS}](?<![{_OTHER_MARKS}]{{2}})[{_OTHER_MARKS}]*+[{_CLOSING}]*+[^\S\n]*+(?=\S)"
)
_THAI_LAO_END = re.compile(rf"[{_THAI_LAO}][^\S\n]++(?=[{_THAI_LAO}])")


def _is_plain(word: str) -> bool:
    """Whether a token is a word. The second character counts for ``'s`` and ``@name``."""
    return word[0].isalnum() or word[1:2].isalnum()


class TextView:
    """A text with its parts, each found at first use. All parts of an empty text are empty."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def words(self) -> list[str]:
        """Tokens in order, punctuation included."""
        return (_MIXED_WORD if self._has_unspaced else _SPACED_WORD).findall(self.text)

    @cached_property
    def _has_unspaced(self) -> bool:
        return not self.text.isascii() and _UNSPACED_LETTER.search(self.text) is not None

    @cached_property
    def _numbered(self) -> tuple[list[str], NDArray[np.int64]]:
        numbers: defaultdict[str, int] = defaultdict()
        numbers.default_factory = numbers.__len__  # the next unused number
        ids = np.fromiter(map(numbers.__getitem__, self.words), np.int64, len(self.words))
        return list(numbers), ids

    @property
    def vocabulary(self) -> list[str]:
        """The different tokens, in the order of their first appearance."""
        return self._numbered[0]

    @property
    def word_ids(self) -> NDArray[np.int64]:
        """The place of each token in ``vocabulary``."""
        return self._numbered[1]

    @cached_property
    def word_counts(self) -> NDArray[np.int64]:
        """How often each token of ``vocabulary`` stands in the text."""
        return np.bincount(self.word_ids, minlength=len(self.vocabulary))

    @cached_property
    def vocabulary_lengths(self) -> NDArray[np.int64]:
        """Characters of each token of ``vocabulary``."""
        return np.fromiter(map(len, self.vocabulary), np.int64, len(self.vocabulary))

    @property
    def word_lengths(self) -> NDArray[np.int64]:
        """Characters of each token, in order."""
        return self.vocabulary_lengths[self.word_ids]

    @cached_property
    def is_plain(self) -> NDArray[np.bool_]:
        """For each token of ``vocabulary``, whether it is more than punctuation: a plain word."""
        plain = map(_is_plain, self.vocabulary)
        return np.fromiter(plain, np.bool_, len(self.vocabulary))

    @cached_property
    def plain_word_count(self) -> int:
        """Number of tokens that begin with a letter or digit."""
        return int(self.word_counts[self.is_plain].sum())

    @cached_property
    def plain_words(self) -> list[str]:
        """Tokens that begin with a letter or digit, in order."""
        return [word for word in self.words if _is_plain(word)]

    @cached_property
    def unspaced_share(self) -> float:
        """Share of plain words that are pieces of a run in a script without spaces."""
        if not self._has_unspaced:
            return 0.0
        starts = (_UNSPACED_LETTER.match(word) is not None for word in self.vocabulary)
        unspaced = np.fromiter(starts, np.bool_, len(self.vocabulary)) & self.is_plain
        return int(self.word_counts[unspaced].sum()) / (self.plain_word_count or 1)

    @cached_property
    def lines(self) -> list[str]:
        """Lines as ``str.splitlines`` gives them, empty ones included."""
        return self.text.splitlines()

    @cached_property
    def filled_lines(self) -> list[str]:
        """Lines between newlines that are not blank, as they stand."""
        return [line for line in self.text.split("\n") if line and not line.isspace()]

    @cached_property
    def line_blocks(self) -> list[str]:
        """The text split at runs of newlines: the lines of the repetition rules."""
        return _NEWLINES.split(self.text)

    @cached_property
    def paragraphs(self) -> list[str]:
        """The stripped text split at empty lines."""
        return _PARAGRAPH_BREAK.split(self.text.strip())

    @cached_property
    def sentences(self) -> int:
        """Number of sentences; every line that is not blank begins one."""
        return count_sentences(self.text)


def count_sentences(text: str) -> int:
    """Lines that are not blank, and the ends of sentences within them.

    A full stop, question or exclamation mark or ellipsis (and closing quotes or brackets) ends a
    sentence before a space and anything but a small letter, so that ``e.g. this`` does not end
    one; nor does a full stop after a single capital (``J. Smith``) or a title (``Dr.``, ``Mr.``,
    ``Mrs.``, ``Ms.``, ``Sr.``, ``St.``). Marks of other scripts (``。``, ``।``, ``۔``) need no
    space. In Thai and Lao, which have no mark, a space is an end, so clauses are counted.
    """
    count = sum(1 for line in text.split("\n") if line and not line.isspace())
    count += len(_SPACED_END.findall(text))
    if not text.isascii():
        count += len(_UNSPACED_END.findall(text)) + len(_THAI_LAO_END.findall(text))
    return count
