"""WARC and ARC framing: where one record ends and the next begins, also after damage.

Sources: WARC 1.1 (ISO 28500:2017), section 4, and its drafts 0.17 and 0.18; ARC 1.0 and 2.0 file
format (Internet Archive, 1996). A record whose length is wrong is told by what follows it; reading
then goes on at the next version line after the start of its block, or at the next member.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.sources.caps import ReadCaps
from pipelines.sources.window import Window

MAX_HEADER_BYTES = 1 << 20
"""Longest header block of a record. URLs of data: kind reach some hundred kB."""

_BLANK = re.compile(rb"[\r\n\t \x00]*")
# Line ends may be CRLF, bare LF, or CR CR LF, as left by a transfer in text mode.
_VERSION_LINE = re.compile(rb"(?:WARC|warc)/\d+\.\d+[ \t]*\r{0,2}\n")
_WARC_START = re.compile(rb"\n((?:WARC|warc)/\d+\.\d+[ \t]*\r{0,2}\n)")
_END_OF_HEADERS = re.compile(rb"\n\r{0,2}\n")
_WARC_MAGIC = b"WARC/"
_ARC_MAGIC = b"filedesc://"
_ARC_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]{0,20}:")
_ARC_DATED_LINE = re.compile(rb"[a-z]{2,8}:[^\n]* \d{14} [^ \n]* \d+[ ]*\r?\n")
_ARC_START = re.compile(
    rb"\n([a-z][a-z0-9+.-]{1,20}:[^\s]* [^\n]{0,2000}? \d{14} [^\n]{1,400} \d+[ ]*\r?\n)"
)
_BREAK = re.compile(rb"\r{0,2}\n")
_LOOK_BEHIND = 64
"""Bytes behind a block that are read to see the line breaks that end it and the next record."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A record as it stands in the archive; header names are in lower case.

    ``offset`` is the byte offset in the input: of the record, or of the compressed member that it
    begins in. ``block`` is everything between the header and the end of the record. ``starts``
    tells that a reader can begin at ``offset`` and meet this record first.
    """

    headers: dict[str, str]
    block: bytes
    offset: int
    starts: bool = False


@dataclass(frozen=True, slots=True)
class _Header:
    fields: dict[str, str]
    size: int
    block_size: int
    offset: int
    starts: bool


@dataclass(frozen=True, slots=True)
class Damage:
    """A stretch of the archive that could not be read as a record."""

    error: str
    message: str


def frames(window: Window, caps: ReadCaps) -> Iterator[Frame | Damage]:
    """All records of an archive, and all damage, in order. Never raises."""
    _skip_blank(window)
    window.need(len(_ARC_MAGIC))
    arc = window.data.startswith(_ARC_MAGIC, window.position) or bool(
        _ARC_DATED_LINE.match(window.data, window.position, window.position + MAX_HEADER_BYTES)
    )
    if not arc and window.ended and window.position == len(window.data) and window.damage is None:
        yield Damage("EmptyInput", "the input holds no record")
        return
    parser = _ArcParser() if arc else _WarcParser()
    while True:
        _skip_blank(window)
        if not window.need(1):
            if window.damage is None:
                return
            damage = window.pass_damage()
            yield Damage(damage.error, damage.message)
            continue
        yield from _record(window, parser, caps)


class _WarcParser:
    start = _WARC_START
    prefix = _WARC_MAGIC
    what = "a WARC version line"
    splits = True

    def begins(self, window: Window) -> bool:
        window.need(32)
        return _VERSION_LINE.match(window.data, window.position) is not None

    def header(self, window: Window) -> tuple[dict[str, str], int] | None:
        """The header fields and the size of the header block, or ``None`` if it has no end."""
        end = _find_end_of_headers(window)
        if end is None:
            return None
        raw = bytes(window.data[window.position : window.position + end])
        return _fields(raw), end

    def follows(self, window: Window, position: int) -> bool:
        return window.data[position : position + 5].upper() == _WARC_MAGIC


class _ArcParser:
    start = _ARC_START
    prefix = b""
    what = "an ARC URL record line"
    splits = False  # a record does not show that its file is ARC

    def begins(self, window: Window) -> bool:
        return bool(self._line(window))

    def _line(self, window: Window) -> bytes:
        """The URL record line ahead with its end, or nothing where none stands there."""
        while window.data.find(b"\n", window.position) < 0:
            if len(window.data) - window.position > MAX_HEADER_BYTES or not window.more():
                return b""
        return _arc_line(window.data, window.position)

    def header(self, window: Window) -> tuple[dict[str, str], int] | None:
        line = self._line(window)
        return (_arc_fields(line.strip()), len(line)) if line else None

    def follows(self, window: Window, position: int) -> bool:
        """Whether a URL record line may begin here: an ARC record has no other mark."""
        return window.data.find(b"\n", position) < 0 or bool(_arc_line(window.data, position))


def _arc_line(data: bytearray, position: int) -> bytes:
    """The line at ``position``, if it has a URL and at least the five fields of version 1."""
    end = data.find(b"\n", position, position + MAX_HEADER_BYTES) + 1
    if not end or _ARC_SCHEME.match(data, position) is None:
        return b""
    line = bytes(data[position:end])
    return line if line.count(b" ") >= 4 else b""


def _record(
    window: Window, parser: _WarcParser | _ArcParser, caps: ReadCaps
) -> Iterator[Frame | Damage]:
    offset = window.offset_of(window.position)
    starts = parser.splits and window.starts_member(window.position)
    if not parser.begins(window):
        yield _lost(
            window, parser, 1, "MissingVersionLine", f"offset {offset} is not {parser.what}"
        )
        return
    parsed = parser.header(window)
    if parsed is None:
        yield _lost(
            window, parser, 1, "BadHeader", f"the record header at offset {offset} has no end"
        )
        return
    headers, head = parsed
    declared = headers.get("content-length", "")
    if not (declared.isascii() and declared.isdigit()):
        error = "BadContentLength" if declared else "MissingContentLength"
        shown = f"{declared[:40]!r}" if declared else "nothing"
        yield _lost(
            window, parser, head, error, f"record at offset {offset} states {shown} as its length"
        )
        return
    length = int(declared[:20])
    if length > caps.max_record_bytes:
        yield _lost(
            window,
            parser,
            head,
            "RecordTooLarge",
            f"record at offset {offset} states {length} bytes, over max_record_bytes = "
            f"{caps.max_record_bytes}",
        )
        return
    yield _block(window, parser, _Header(headers, head, length, offset, starts))


def _block(window: Window, parser: _WarcParser | _ArcParser, header: _Header) -> Frame | Damage:
    """Take the block that the header announces, if it stands there whole and ends as it should."""
    stated = f"record at offset {header.offset} states {header.block_size} bytes"
    total = header.size + header.block_size
    complete = window.need(total)
    start = window.position + header.size
    available = min(start + header.block_size, len(window.data))
    # A length that is too large runs into the next record, which a member boundary shows.
    if parser.prefix:
        inside = window.member_start_after(start - 1, available, parser.prefix)
        if inside >= 0:
            window.position = inside
            return Damage("WrongContentLength", f"{stated}, its member ends after {inside - start}")
    if not complete:
        return _cut_off(window, parser, start, stated)
    window.need(total + _LOOK_BEHIND)
    start = window.position + header.size
    end = start + header.block_size
    after = _after_blank(window, end)
    ended = after == len(window.data) or parser.follows(window, after)
    # The mark that ends a record is enough: what stands behind it is damage of its own.
    if not ended and not (parser.prefix and window.data.startswith(b"\r\n\r\n", end)):
        problem = f"{stated}, but no record begins behind them"
        return _lost(window, parser, header.size, "WrongContentLength", problem)
    block = bytes(window.data[start:end])
    window.position = end
    if after == len(window.data) and _fails_check(window, header.offset):
        damage = window.pass_damage()
        return Damage(damage.error, f"record at offset {header.offset}: {damage.message}")
    return Frame(header.fields, block, header.offset, header.starts)


def _cut_off(window: Window, parser: _WarcParser | _ArcParser, start: int, stated: str) -> Damage:
    """The input, or its undamaged part, ended inside a block, or the length is too large."""
    found = parser.start.search(window.data, max(0, start - 1))
    if found is not None:
        window.position = found.start(1)
        message = f"{stated}, the next record begins after {window.position - start}"
        return Damage("WrongContentLength", message)
    there = len(window.data) - start
    if window.damage is not None:
        damage = window.pass_damage()
        return Damage(damage.error, f"{stated}, {there} could be read: {damage.message}")
    window.position = len(window.data)
    return Damage("TruncatedRecord", f"{stated}, the input ends after {there}")


def _fails_check(window: Window, offset: int) -> bool:
    """Whether the member of the record just read turned out damaged right behind it."""
    damage = window.damage
    return damage is not None and damage.error == "DamagedMember" and damage.offset == offset


def _lost(
    window: Window, parser: _WarcParser | _ArcParser, skip: int, error: str, message: str
) -> Damage:
    """Go to the next record start at least ``skip`` bytes on; what was passed over is damage."""
    # The search wants the line break before a version line, the last byte of a header.
    from_here = max(window.position, window.position + skip - 1)
    if not window.seek(parser.start, from_here, parser.prefix or b"\0") and window.damage:
        damage = window.pass_damage()
        return Damage(error, f"{message}; then {damage.message}")
    return Damage(error, message)


def _skip_blank(window: Window) -> None:
    while True:
        window.position = _after_blank(window, window.position)
        if window.position < len(window.data) or not window.more():
            return


def _after_blank(window: Window, position: int) -> int:
    match = _BLANK.match(window.data, position)
    return match.end() if match else position


def _find_end_of_headers(window: Window) -> int | None:
    searched = window.position
    while True:
        found = _END_OF_HEADERS.search(window.data, searched)
        if found is not None:
            return found.end() - window.position
        size = len(window.data) - window.position
        if size > MAX_HEADER_BYTES or not window.more():
            return None
        searched = window.position + max(0, size - 4)


def _fields(raw: bytes) -> dict[str, str]:
    """Named fields of a WARC header; the first of a repeated name counts, folds are joined."""
    headers: dict[str, str] = {}
    name = ""
    for line in _BREAK.split(raw)[1:]:
        text = line.decode("utf-8", "replace")
        if text[:1] in {" ", "\t"} and name:
            headers[name] = f"{headers[name]} {text.strip()}".strip()
            continue
        key, colon, value = text.partition(":")
        if colon:
            name = key.strip().lower()
            headers.setdefault(name, value.strip())
    return headers


def _arc_fields(line: bytes) -> dict[str, str]:
    """An ARC URL record line in the terms of a WARC header."""
    fields = line.decode("utf-8", "replace").split(" ")
    if len(fields) < 5:
        return {}
    second = len(fields) >= 10 and fields[-8].isdigit() and len(fields[-8]) >= 8
    url = " ".join(fields[:-9] if second else fields[:-4])
    date, mime = (fields[-8], fields[-7]) if second else (fields[-3], fields[-2])
    if url.startswith("filedesc:"):
        kind, content_type = "warcinfo", "text/plain"
    elif url.startswith(("http:", "https:")):
        kind, content_type = "response", "application/http; msgtype=response"
    else:
        kind, content_type = "resource", mime
    return {
        "warc-type": kind,
        "warc-target-uri": url,
        "warc-date": _arc_date(date),
        "content-type": content_type,
        "content-length": fields[-1],
    }


def _arc_date(digits: str) -> str:
    if len(digits) < 14 or not digits.isdigit():
        return digits
    year, month, day = digits[:4], digits[4:6], digits[6:8]
    return f"{year}-{month}-{day}T{digits[8:10]}:{digits[10:12]}:{digits[12:14]}Z"
