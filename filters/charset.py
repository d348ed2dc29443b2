"""From the bytes of a page to its text, by the rules of the web.

Order of evidence (WHATWG HTML, section 13.2.3.2): byte order mark, HTTP header, ``meta`` or XML
declaration, then the bytes themselves. Two departures serve a corpus better than a browser's
reading: a declaration that the bytes refute is passed over for the next evidence, and text that is
valid UTF-8 is read as UTF-8 although a legacy encoding was declared.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import chardet
from chardet import EncodingEra

from filters.codecs_web import decode_bytes, is_multibyte
from filters.meta_charset import declared_charset, encoding_for_label

DETECTOR_BYTES = 1 << 16
"""Bytes given to the detector; more changes none of its answers on real pages."""

MAX_REFUTED = 0.1
"""Share of non-ASCII characters that may be undecodable before a declaration counts as wrong: one
broken byte in a page is noise, a tenth of them is another encoding."""

MIN_UTF8_SEQUENCES = 3
"""Valid UTF-8 sequences that overrule a declared multi-byte encoding: one or two can be an
accident of two-byte characters, as in the word that fooled Windows Notepad."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    # UTF-32 is outside the standard, and its little-endian mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16le"),
    (codecs.BOM_UTF16_BE, "utf-16be"),
)
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_UTF8_SEQUENCE = re.compile(rb"[\xc2-\xf4][\x80-\xbf]+")
_ESCAPED = re.compile(rb"\x1b[$(]|~\{")
_WEB_ERAS = (
    EncodingEra.MODERN_WEB
    | EncodingEra.LEGACY_ISO
    | EncodingEra.LEGACY_MAC
    | EncodingEra.LEGACY_REGIONAL
    | EncodingEra.DOS
)
_NEVER_DETECTED = ("utf-7",)
"""UTF-7 is ASCII, and browsers dropped it for the attacks that it allows."""
_DETECTED = {
    # Names of the detector that are no labels of the standard, but mean an encoding of it.
    "cp932": "shift_jis",
    "cp949": "euc-kr",
    "cp874": "windows-874",
    "utf-16-le": "utf-16le",
    "utf-16-be": "utf-16be",
}
_STATEFUL = {"iso-2022-kr": "iso2022_kr", "hz-gb-2312": "hz"}


@dataclass(frozen=True, slots=True)
class Decoded:
    """Text with the encoding it was read in.

    ``charset`` is the WHATWG name in lower case, or Python's name for an encoding outside that
    standard. ``source`` is ``bom``, ``http``, ``meta``, ``utf-8`` (the bytes are valid UTF-8) or
    ``detector``. ``loss`` is the share of characters that stand for undecodable bytes.
    """

    text: str
    charset: str
    source: str
    loss: float


def decode(payload: bytes, http_charset: str | None, *, html: bool) -> Decoded:
    """Decode a page. Never raises; what cannot be decoded becomes U+FFFD and counts as loss.

    ``http_charset`` is the label from the Content-Type header; ``html`` says whether to look for
    a declaration in the markup.
    """
    for mark, encoding in _BOMS:
        if payload.startswith(mark):
            return _decoded(payload[len(mark) :], encoding, "bom")
    text = _strict_utf8(payload)
    attempts: list[Decoded] = []
    for encoding, source in _declarations(payload, http_charset, html):
        if text is not None and encoding == "utf-8":
            return Decoded(text, encoding, source, 0.0)
        if text is not None and _overruled(payload, encoding):
            return Decoded(text, "utf-8", "utf-8", 0.0)
        attempt = _decoded(payload, encoding, source)
        if not _refuted(attempt):
            return attempt
        attempts.append(attempt)
    if not _is_escaped_or_wide(payload):
        if text is not None:
            return Decoded(text, "utf-8", "utf-8", 0.0)
        attempt = _decoded(payload, "utf-8", "utf-8")
        if not _refuted(attempt):
            return attempt
    attempts.append(_detected(payload))
    return min(attempts, key=lambda attempt: attempt.loss)


def _strict_utf8(payload: bytes) -> str | None:
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _declarations(
    payload: bytes, http_charset: str | None, html: bool
) -> Iterator[tuple[str, str]]:
    """What the header and the markup declare; an unknown label declares nothing."""
    from_header = _resolve(http_charset) if http_charset else None
    if from_header is not None:
        yield from_header, "http"
    if html:
        from_markup = declared_charset(payload)
        if from_markup is not None and from_markup != "replacement" != from_header:
            yield from_markup, "meta"


def _resolve(label: str) -> str | None:
    """A label of the standard, or of the stateful encodings that it maps to "replacement".

    Browsers refuse those because they let a script hide; here no script runs, so their text is
    read with Python's codec.
    """
    stateful = _STATEFUL.get(label.strip().lower())
    if stateful is not None:
        return stateful
    found = encoding_for_label(label)
    return None if found == "replacement" else found


def _overruled(payload: bytes, encoding: str) -> bool:
    """Whether a payload that is valid UTF-8 refutes the other encoding that was declared."""
    if encoding.startswith("utf-16"):
        return b"\0" not in payload
    if encoding.startswith("iso-2022") or encoding in _STATEFUL.values():
        return _ESCAPED.search(payload) is None
    needed = MIN_UTF8_SEQUENCES if is_multibyte(encoding) else 1
    sequences = islice(_UTF8_SEQUENCE.finditer(payload), needed)
    return sum(1 for _ in sequences) == needed


def _refuted(attempt: Decoded) -> bool:
    """Whether too much of what is not ASCII could not be decoded."""
    if attempt.loss == 0:
        return False
    beyond_ascii = len(attempt.text) - len(attempt.text.encode("ascii", "ignore"))
    return attempt.loss * len(attempt.text) > MAX_REFUTED * beyond_ascii


def _is_escaped_or_wide(payload: bytes) -> bool:
    """Whether bytes that are valid UTF-8 may still be ISO-2022, HZ or UTF-16 without a mark."""
    head = payload[:DETECTOR_BYTES]
    return b"\0" in head or (_ESCAPED.search(head) is not None and head.isascii())


def _detected(payload: bytes) -> Decoded:
    first = _NOT_ASCII.search(payload)
    start = max(0, first.start() - 1024) if first and first.start() > DETECTOR_BYTES // 2 else 0
    guess = chardet.detect(
        payload[start : start + DETECTOR_BYTES],
        encoding_era=_WEB_ERAS,
        exclude_encodings=_NEVER_DETECTED,
    )["encoding"]
    if guess is None:
        return _decoded(payload, "utf-8", "detector")
    name = guess.lower()
    return _decoded(payload, _DETECTED.get(name) or _resolve(name) or name, "detector")


def _decoded(payload: bytes, encoding: str, source: str) -> Decoded:
    text, lost = decode_bytes(payload, encoding)
    return Decoded(text, encoding, source, lost / len(text) if text else 0.0)
