"""Decoders of the WHATWG Encoding standard, built on Python's codecs.

Python's tables differ from the standard where browsers extend an encoding: bytes 80 to 9F that
windows code pages leave undefined are C1 controls, GBK means GB18030, Shift_JIS means code page
932, EUC-KR means code page 949. Source: WHATWG Encoding, sections 4.2 and 9 to 14.
"""

from __future__ import annotations

import codecs
from functools import cache

_CODEC = {
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "euc-kr": "cp949",
    "shift_jis": "cp932",
    "euc-jp": "euc_jp",
    "iso-2022-jp": "iso2022_jp_ext",
    "iso-8859-8-i": "iso8859_8",
    "macintosh": "mac_roman",
    "x-mac-cyrillic": "mac_cyrillic",
    "utf-16le": "utf_16_le",
    "utf-16be": "utf_16_be",
    "windows-874": "cp874",
}
_TABLE_PATCHES = {
    # Where Python's table differs from the index of the standard in a defined character.
    "koi8-u": {0xAE: "\u045e", 0xBE: "\u040e"},
    "windows-1255": {0xCA: "\u05ba"},
}
_MULTIBYTE = frozenset(
    {"utf-8", "utf-16le", "utf-16be", "gbk", "gb18030", "big5", "euc-jp", "euc-kr", "shift_jis"}
    | {"iso-2022-jp"}
)


def is_multibyte(encoding: str) -> bool:
    """Whether bytes of ``encoding`` can be invalid in a way that tells it was declared wrongly."""
    return encoding in _MULTIBYTE


def decode_bytes(payload: bytes, encoding: str) -> tuple[str, int]:
    """Decode, with U+FFFD for what cannot be; returns the text and how many U+FFFD were put in.

    ``encoding`` is a WHATWG name or a Python codec name; an unknown one raises ``LookupError``.
    """
    table = _decoding_table(encoding)
    if table is not None:
        text = codecs.charmap_decode(payload, "strict", table)[0]
        return text, text.count("\ufffd")
    codec = _CODEC.get(encoding, encoding)
    try:
        return payload.decode(codec), 0
    except UnicodeError:
        pass
    handler = _HANDLERS.get(codec, "replace")
    text = payload.decode(codec, handler)
    return text, max(0, text.count("\ufffd") - _encoded_replacements(payload, codec))


def _encoded_replacements(payload: bytes, codec: str) -> int:
    """How many U+FFFD the author wrote, which are no loss of the decoding."""
    if codec in {"utf-8", "utf_8"}:
        return payload.count(b"\xef\xbf\xbd")
    if codec == "gb18030":
        return payload.count(b"\x84\x31\xa4\x37")
    return 0


@cache
def _decoding_table(encoding: str) -> str | None:
    """256 characters for a single-byte encoding of the standard, U+FFFD where undefined."""
    if encoding == "x-user-defined":
        return "".join(map(chr, [*range(0x80), *range(0xF780, 0xF800)]))
    if not encoding.startswith(("windows-", "iso-8859-", "koi8-", "mac", "x-mac", "ibm866")):
        return None
    codec = _CODEC.get(encoding, encoding.replace("windows-", "cp"))
    patches = _TABLE_PATCHES.get(encoding, {})
    return "".join(_character(byte, codec, patches) for byte in range(256))


def _character(byte: int, codec: str, patches: dict[int, str]) -> str:
    if byte in patches:
        return patches[byte]
    try:
        return bytes([byte]).decode(codec)
    except UnicodeDecodeError:
        return chr(byte) if byte < 0xA0 else "\ufffd"


def _recover_euc_jp(error: UnicodeError) -> tuple[str, int]:
    """Vendor rows that browsers read in EUC-JP and Python does not, through code page 932."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    pair = error.object[error.start : error.start + 2]
    if len(pair) == 2 and min(pair) >= 0xA1 and max(pair) <= 0xFE:
        row, cell = pair[0] - 0xA1, pair[1] - 0xA1
        lead = (row >> 1) + (0x81 if row < 62 else 0xC1)
        trail = cell + 0x9F if row & 1 else cell + (0x40 if cell < 63 else 0x41)
        try:
            return bytes([lead, trail]).decode("cp932"), error.start + 2
        except UnicodeDecodeError:
            pass
    return "\ufffd", error.end


def _recover_gb18030(error: UnicodeError) -> tuple[str, int]:
    """The single byte 80, a euro sign in code page 936 (WHATWG Encoding, section 10.2.1)."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    if error.object[error.start] == 0x80:
        return "\u20ac", error.start + 1
    return "\ufffd", error.end


def _recover_big5(error: UnicodeError) -> tuple[str, int]:
    """ETEN characters that Python has in code page 950 only."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    try:
        return error.object[error.start : error.start + 2].decode("cp950"), error.start + 2
    except UnicodeDecodeError:
        return "\ufffd", error.end


codecs.register_error("cidermill.euc_jp", _recover_euc_jp)
codecs.register_error("cidermill.gb18030", _recover_gb18030)
codecs.register_error("cidermill.big5", _recover_big5)
_HANDLERS = {
    "euc_jp": "cidermill.euc_jp",
    "gb18030": "cidermill.gb18030",
    "big5hkscs": "cidermill.big5",
}
