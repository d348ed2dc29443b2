"""One cheap look over the text: where could an identifier be?

Presidio's recognizers cost milliseconds a page, and most pages hold nothing for them. Each scan
here is linear, and no identifier of its kind can escape it; the recognizers then read only the
windows that it yields. The scans run over the *shape* of the text, one byte a character with
every digit written ``0``, because searching for one literal byte is many times faster than
searching for a class of characters.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass

LOCAL_PART = 64
DOMAIN = 255
"""Longest local part and domain of an e-mail address (RFC 5321, 4.5.3.1)."""

CODE_REACH = 48
"""How far a code reaches from its first digit: an IBAN has 34 characters and 8 spaces."""

NUMBER_RUN = 256
"""Longest run of digits and separators that is read as one: a row of a table may have thousands."""

# Characters that libphonenumber allows between the digits of one number.
_JOIN = (
    r"\-\u2010-\u2015\u2212\u30fc\uff0d\uff0f \u00a0\u00ad\u200b\u2060\u3000()\uff08\uff09"
    r"\uff3b\uff3d.\[\]/~\u2053\u223c\uff5e"
)
# Seven digits are the shortest telephone number looked for, and no other number is shorter.
NUMBER = rf"\d(?:[{_JOIN}]{{0,6}}\d){{6,}}"
"""A pattern for digits that could be one number."""
_NUMBER = re.compile(NUMBER)
_NUMBER_SHAPE = re.compile(rb"0(?:[^0Aa\n]{0,6}0){6,}")
_IPV4_SHAPE = re.compile(rb"00{0,2}(?:\.0{1,3}){3}")
_CODE = re.compile(r"[A-Z0-9](?:[ +\-]?[A-Z0-9]){7,}")
_CODE_SHAPE = re.compile(rb"0(?:[A +\-]*0){3}")
_BASE58_SHAPE = re.compile(rb"0[0Aa]{25,}")
# Separators around a few hexadecimal digits: IPv6 and hardware addresses.
_COLON_SEEDS = (
    re.compile(r":[0-9A-Fa-f]{0,4}:"),
    re.compile(r"-[0-9A-Fa-f]{2}-[0-9A-Fa-f]{2}-"),
    re.compile(r"\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}"),
)
_HEX_RUN = frozenset("0123456789ABCDEFabcdef:.%/-")
_HEX_REACH = 64

_SHAPE = bytes(
    ord("0")
    if chr(byte).isdigit() and byte < 128
    else ord("A")
    if chr(byte).isupper() and byte < 128
    else ord("a")
    if chr(byte).islower() and byte < 128
    else byte
    for byte in range(256)
)
# First bytes, in UTF-8, of Arabic, Persian, Indic and full-width digits.
_OTHER_DIGITS = (b"\xd9", b"\xdb", b"\xe0", b"\xef")

Window = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Candidates:
    """The windows of one text, by the kind of identifier that each could hold."""

    email: tuple[Window, ...]
    number: tuple[Window, ...]
    ipv4: tuple[Window, ...]
    code: tuple[Window, ...]
    colon: tuple[Window, ...]
    crypto: tuple[Window, ...]


def find_candidates(text: str) -> Candidates:
    """Where ``text`` could hold identifiers. Windows of one kind are in order and may touch."""
    shape = text.encode("latin-1", "replace").translate(_SHAPE)
    return Candidates(
        email=tuple(_emails(text)),
        number=tuple(_numbers(text, shape)),
        ipv4=tuple(match.span() for match in _IPV4_SHAPE.finditer(shape)),
        code=tuple(_codes(text, shape)),
        colon=tuple(_colons(text)),
        crypto=tuple(_crypto(text, shape)),
    )


def whole_text(text: str) -> Candidates:
    """Windows that hide nothing: the recognizers read everything, whatever it costs."""
    everything = ((0, len(text)),)
    return Candidates(everything, everything, everything, everything, everything, everything)


def _emails(text: str) -> Iterator[Window]:
    start = end = 0
    at = text.find("@")
    while at != -1:
        # An address has something on both sides of the sign: "3 @ 5" has not.
        if at and not text[at - 1].isspace() and text[at + 1 : at + 2].isalnum():
            low, high = max(0, at - LOCAL_PART - 1), min(len(text), at + DOMAIN + 2)
            if low > end:
                if end:
                    yield start, end
                start = low
            end = high
        at = text.find("@", at + 1)
    if end:
        yield start, end


def _numbers(text: str, shape: bytes) -> Iterator[Window]:
    # The shape knows ASCII digits only: a text that may hold others is searched as it is.
    raw = b"" if text.isascii() else text.encode("utf-8", "surrogatepass")
    if any(byte in raw for byte in _OTHER_DIGITS):
        for match in _NUMBER.finditer(text):
            yield from _pieces(text, *match.span())
        return
    for rough in _NUMBER_SHAPE.finditer(shape):
        for match in _NUMBER.finditer(text, *rough.span()):
            yield from _pieces(text, *match.span())


def _pieces(text: str, start: int, end: int) -> Iterator[Window]:
    """A run of numbers, cut at spaces into pieces that no recognizer takes long over."""
    while end - start > NUMBER_RUN:
        cut = text.rfind(" ", start, start + NUMBER_RUN)
        cut = start + NUMBER_RUN if cut <= start else cut
        yield start, cut
        start = cut
    yield start, end


def _codes(text: str, shape: bytes) -> Iterator[Window]:
    end = 0
    for rough in _CODE_SHAPE.finditer(shape):
        if rough.start() < end:
            continue
        start = _back(shape, rough.start(), max(end, rough.start() - CODE_REACH), b"A0 +-")
        stop = _forth(shape, rough.end(), rough.end() + CODE_REACH, b"A0 +-")
        if b"A" in shape[start:stop]:
            yield from (match.span() for match in _CODE.finditer(text, start, stop))
        end = stop


def _colons(text: str) -> Iterator[Window]:
    for seed in _COLON_SEEDS:
        end = 0
        for match in seed.finditer(text):
            if match.start() >= end:
                start = _back(text, match.start(), max(end, match.start() - _HEX_REACH), _HEX_RUN)
                end = _forth(text, match.end(), match.end() + _HEX_REACH, _HEX_RUN)
                yield start, end


def _crypto(text: str, shape: bytes) -> Iterator[Window]:
    for match in _BASE58_SHAPE.finditer(shape):
        yield match.span()
    at = text.find("bc1")
    while at != -1:
        yield at, min(len(text), at + 64)
        at = text.find("bc1", at + 1)


def _back(text: str | bytes, at: int, floor: int, allowed: Container[object]) -> int:
    while at > floor and text[at - 1] in allowed:
        at -= 1
    return at


def _forth(text: str | bytes, at: int, ceiling: int, allowed: Container[object]) -> int:
    while at < min(ceiling, len(text)) and text[at] in allowed:
        at += 1
    return at
