"""A text as the hashes of its words, found and hashed in numpy without a loop over words.

Two texts that differ in case, punctuation, line breaks, Unicode composition, compatibility forms
(ligatures, full-width letters) or invisible characters have the same words. The text is put into
NFKC and case-folded, and the dotless i of Turkish counts as i. Letters, marks and numbers make
words; everything else separates them, so ``well-known`` is two words and a lone dash is none. Soft
hyphens, joiners and variation selectors vanish without separating; the zero-width space separates.

Scripts written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese, Yi and some more)
have one word a letter, with the marks that follow it. Korean and Tibetan have separators and are
read as words.

This is the same idea as the text simplification of datatrove (``utils/text.py``), with three
differences: punctuation separates words where datatrove deletes it, diacritics stay, and no
language's word tokenizer is needed.

Which characters are letters is what the running Python's ``unicodedata`` says; characters that a
later Unicode version assigned count as separators before it.
"""

from __future__ import annotations

import functools
import unicodedata
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SEPARATOR, LETTER, DIGIT, MARK, UNIT, IGNORED = range(6)
"""What a character does: ``UNIT`` is a letter of a script without spaces, a word of its own."""

UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x2E80, 0x2FDF),  # radicals
    (0x3005, 0x312F),  # ideographic marks, Hiragana, Katakana, Bopomofo
    (0x31A0, 0x31FF),  # Bopomofo and Katakana extensions
    (0x3400, 0x4DBF),  # ideographs, extension A
    (0x4E00, 0xA48F),  # ideographs, Yi
    (0xA9E0, 0xA9FF),  # Myanmar
    (0xAA60, 0xAADF),  # Myanmar, Tai Viet
    (0xF900, 0xFAFF),  # compatibility ideographs
    (0x1B000, 0x1B16F),  # Kana supplements
    (0x20000, 0x3FFFF),  # ideographs, extensions B and later
)
"""Blocks of scripts that do not separate words by spaces."""

ASSIGNED = ((0x0, 0x3FFFF), (0xE0000, 0xE0FFF))
"""Where Unicode has assigned characters; the rest is unassigned or private."""

ZERO_WIDTH_SPACE = 0x200B
VARIATION_SELECTORS = ((0xFE00, 0xFE0F), (0xE0100, 0xE01EF))

TURKISH_I = ("i\u0307", "\u0131")
"""The dotted capital I as case folding leaves it, and the dotless i: without the language, a text
in capitals cannot be told from one with the other letter, so both count as i."""

Hashes = NDArray[np.uint64]
Codes = NDArray[np.uint32] | NDArray[np.uint8]
"""Code points; 8 bits wide where the text is ASCII."""


@functools.cache
def character_kinds() -> NDArray[np.uint8]:
    """The kind of every code point, from its Unicode general category (50 ms, once a process)."""
    kinds = np.zeros(0x110000, dtype=np.uint8)
    by_category = {"L": LETTER, "N": LETTER, "M": MARK}
    for first, last in ASSIGNED:
        for code in range(first, last + 1):
            category = unicodedata.category(chr(code))
            if category == "Nd":
                kinds[code] = DIGIT
            elif category == "Cf":
                kinds[code] = IGNORED
            else:
                kinds[code] = by_category.get(category[0], SEPARATOR)
    for first, last in UNSPACED:
        block = kinds[first : last + 1]
        block[block == LETTER] = UNIT
    for first, last in VARIATION_SELECTORS:
        kinds[first : last + 1] = IGNORED
    kinds[ZERO_WIDTH_SPACE] = SEPARATOR
    return kinds


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a text: ``hashes`` row for row with where each begins in ``codes``.

    ``codes`` are the code points of the folded text without what is ignored; ``inside`` is false
    for the separators among them.
    """

    hashes: Hashes
    starts: NDArray[np.int64]
    codes: Codes
    inside: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.hashes)

    def text(self, first: int, count: int) -> str:
        """Words ``first`` to ``first + count - 1`` with one space between them."""
        return " ".join(self._word(place) for place in range(first, first + count))

    def _word(self, place: int) -> str:
        start = int(self.starts[place])
        last = place + 1 == len(self.starts)
        end = len(self.codes) if last else int(self.starts[place + 1])
        letters = self.codes[start:end][self.inside[start:end]]
        return letters.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")


def find_words(text: str, *, fold_digits: bool = False) -> Words:
    """The words of ``text`` and a 64-bit hash of each.

    With ``fold_digits`` a run of decimal digits counts as a single ``0``, so that pages that
    differ in dates and counters alone are the same. Any ``str`` is accepted, lone surrogates too.

    A word's hash is a polynomial modulo 2^64 in mixed code points, mixed again. Two different
    words of the length that words have collide with a probability of about 2^-60; texts of
    thousands of letters without a separator can be made to collide on purpose.
    """
    codes, kinds = _characters(text)
    if fold_digits:
        codes, kinds = _fold_digits(codes, kinds)
    inside = kinds != SEPARATOR
    begins = inside.copy()
    begins[1:] &= ~inside[:-1]
    if codes.dtype != np.uint8:
        begins |= kinds == UNIT
        begins[1:] |= (kinds[:-1] == UNIT) & (kinds[1:] != MARK) & inside[1:]
    starts = np.flatnonzero(begins)
    if not len(starts):
        return Words(np.empty(0, np.uint64), starts, codes, inside)
    powers, inverses = base_powers(len(codes))
    # Letter i of the text counts base^i, and a word is divided by the power of its first letter:
    # so its hash does not depend on where it stands, and no letter needs its place in its word.
    terms = _letter_values(codes, inside)
    terms *= powers
    return Words(mix(np.add.reduceat(terms, starts) * inverses[starts]), starts, codes, inside)


def _letter_values(codes: Codes, inside: NDArray[np.bool_]) -> Hashes:
    if codes.dtype == np.uint8:
        return _ascii_values().take(codes)
    values = mix(codes.astype(np.uint64) + np.uint64(1))
    values *= inside
    return values


@functools.cache
def _ascii_values() -> Hashes:
    """What ``_letter_values`` gives for each ASCII character."""
    codes = np.arange(128, dtype=np.uint32)
    return _letter_values(codes, character_kinds()[:128] != SEPARATOR)


def _characters(text: str) -> tuple[Codes, NDArray[np.uint8]]:
    """The code points of the folded text and their kinds, without what is ignored."""
    if text.isascii():
        folded = text.lower().encode("ascii")
        ascii_kinds = folded.translate(_ascii_kinds())
        return np.frombuffer(folded, dtype=np.uint8), np.frombuffer(ascii_kinds, dtype=np.uint8)
    folded_text = unicodedata.normalize("NFKC", text).casefold()
    for turkish in TURKISH_I:
        folded_text = folded_text.replace(turkish, "i")
    wide = folded_text.encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(wide, dtype="<u4")
    kinds = character_kinds().take(codes)
    kept = kinds != IGNORED
    return (codes, kinds) if kept.all() else (codes[kept], kinds[kept])


@functools.cache
def _ascii_kinds() -> bytes:
    # ``bytes.translate`` asks for all 256 bytes.
    return character_kinds()[:256].tobytes()


def _fold_digits(codes: Codes, kinds: NDArray[np.uint8]) -> tuple[Codes, NDArray[np.uint8]]:
    digit = kinds == DIGIT
    if not digit.any():
        return codes, kinds
    kept = np.ones(len(codes), dtype=bool)
    kept[1:] = ~(digit[1:] & digit[:-1])
    codes = np.where(digit, codes.dtype.type(ord("0")), codes)
    return codes[kept], kinds[kept]


def mix(values: Hashes) -> Hashes:
    """MurmurHash3's 64-bit finalizer: a bijection after which every bit depends on every bit."""
    values = values ^ (values >> np.uint64(33))
    values *= np.uint64(0xFF51AFD7ED558CCD)
    values ^= values >> np.uint64(33)
    values *= np.uint64(0xC4CEB9FE1A85EC53)
    values ^= values >> np.uint64(33)
    return values


def random_words(count: int, seed: int) -> Hashes:
    """``count`` pseudo-random 64-bit numbers of the SplitMix64 generator (Steele et al., 2014).

    The same on every machine and every version of numpy, which numpy's own generators are not.
    """
    steps = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 32)
    values = steps * np.uint64(0x9E3779B97F4A7C15)
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


BASE = 0x9E3779B97F4A7C15
"""The base of the polynomial: odd, so that its powers can be divided by; 5 modulo 8, so that they
return late."""

COMMON_LENGTH = 1 << 15


def base_powers(count: int) -> tuple[Hashes, Hashes]:
    """``BASE`` to the powers 0 to ``count - 1`` modulo 2^64, and their inverses."""
    if count > COMMON_LENGTH:
        return _powers(BASE, count), _powers(pow(BASE, -1, 1 << 64), count)
    powers, inverses = _common_powers()
    return powers[:count], inverses[:count]


@functools.cache
def _common_powers() -> tuple[Hashes, Hashes]:
    return _powers(BASE, COMMON_LENGTH), _powers(pow(BASE, -1, 1 << 64), COMMON_LENGTH)


def _powers(base: int, count: int) -> Hashes:
    factors = np.full(count, base, dtype=np.uint64)
    factors[:1] = 1
    return np.multiply.accumulate(factors)
