"""HTTP transfer and content codings, undone under a bound on the expanded size.

Archives store the body as it came over the wire, or already decoded with the old headers still
in place. A coding is therefore undone only where the bytes look coded; a body that carries no
sign of the named coding is taken as it is, which is also what browsers make of an unknown one.
Sources: RFC 9112 section 7.1 (chunked), RFC 9110 section 8.4 (content codings), RFC 1950 to 1952
(zlib, deflate, gzip), RFC 7932 (brotli), RFC 8878 (zstd).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import brotli
import zstandard

_CHUNK_SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\n]{0,4096})?\r?\n")
_BROTLI_OUTPUT = 1 << 15
_INFLATE_FEED = 1 << 10
_ZSTD_FEED = 1 << 10
"""Bytes given to zstd at once: one block of 4 bytes can expand to 128 KiB, so that a feed stays
below 32 MiB whatever it holds (RFC 8878, section 3.1.1.2)."""
_ZSTD_WINDOW = 1 << 27
"""Largest window accepted, 128 MiB: the limit of the reference decoder."""


class ContentCodingError(ValueError):
    """A body that names a coding and cannot be decoded by it, or expands beyond the bound."""


class ExpansionTooLarge(ContentCodingError):
    """A body that expands beyond the bound: a decompression bomb, or a file no page needs."""


@dataclass(frozen=True, slots=True)
class Decompressed:
    """A body without its codings. ``complete`` is false where the coded stream broke off."""

    data: bytes
    complete: bool


def dechunk(body: bytes) -> Decompressed:
    """Undo ``Transfer-Encoding: chunked``.

    A body that does not begin with a chunk size was stored decoded and is returned unchanged. A
    bad or missing chunk ends the body: what came before is kept and marked incomplete.
    """
    parts: list[bytes] = []
    position = 0
    while (size_line := _CHUNK_SIZE.match(body, position)) is not None:
        size = int(size_line[1], 16)
        start = size_line.end()
        if size == 0:
            return Decompressed(b"".join(parts), complete=True)
        parts.append(body[start : start + size])
        if start + size > len(body):
            return Decompressed(b"".join(parts), complete=False)
        position = start + size
        if body.startswith(b"\r\n", position):
            position += 2
        elif body.startswith(b"\n", position):
            position += 1
        elif not parts[:-1] and position < len(body):
            return Decompressed(body, complete=True)  # hexadecimal text, not a chunk size
        else:
            break
    if not parts:
        return Decompressed(body, complete=True)
    return Decompressed(b"".join(parts), complete=False)


def content_codings(header: str) -> list[str]:
    """The codings of a ``Content-Encoding`` value, in the order in which they were applied."""
    return [coding.strip().lower() for coding in header.split(",") if coding.strip()]


def undo_content_codings(body: bytes, codings: Sequence[str], max_bytes: int) -> Decompressed:
    """Undo stacked content codings, last applied first.

    Raises ``ExpansionTooLarge`` where any layer expands beyond ``max_bytes``, and
    ``ContentCodingError`` where a body in a known coding yields nothing at all. A name that is no
    registered coding (``utf-8``, ``none``) is passed over, as browsers do.
    """
    data, complete = body, True
    for coding in reversed(codings):
        undo = _CODINGS.get(coding)
        if undo is None or not data:
            continue
        layer = undo(data, max_bytes)
        data, complete = layer.data, complete and layer.complete
    return Decompressed(data, complete)


def _gunzip(data: bytes, max_bytes: int) -> Decompressed:
    if not data.startswith(b"\x1f\x8b"):
        return Decompressed(data, complete=True)
    return _inflate(data, max_bytes, zlib.MAX_WBITS | 16, "gzip")


def _undo_deflate(data: bytes, max_bytes: int) -> Decompressed:
    """``deflate`` means zlib (RFC 9110, section 8.4.1.2), but many servers send raw deflate."""
    if _has_zlib_header(data):
        try:
            return _inflate(data, max_bytes, zlib.MAX_WBITS, "deflate")
        except ExpansionTooLarge:
            raise
        except ContentCodingError:
            pass
    try:
        return _inflate(data, max_bytes, -zlib.MAX_WBITS, "deflate")
    except ExpansionTooLarge:
        raise
    except ContentCodingError:
        if _looks_textual(data):
            return Decompressed(data, complete=True)
        raise


def _has_zlib_header(data: bytes) -> bool:
    return len(data) >= 2 and data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0


def _inflate(data: bytes, max_bytes: int, wbits: int, coding: str) -> Decompressed:
    """All gzip members (or the one deflate stream) in ``data``; trailing bytes are ignored."""
    parts: list[bytes] = []
    total = 0
    position = 0
    while position < len(data):
        stream = zlib.decompressobj(wbits)
        try:
            while position < len(data) and not stream.eof:
                # Small steps: a call that fails loses what it had decoded before the damage.
                part = stream.decompress(data[position : position + _INFLATE_FEED])
                position += _INFLATE_FEED
                total += len(part)
                if total > max_bytes:
                    raise _too_large(coding, len(data), max_bytes)
                parts.append(part)
        except zlib.error as error:
            if not total:
                raise ContentCodingError(
                    f"{coding} body of {len(data)} bytes does not decode: {error}"
                ) from None
            return Decompressed(b"".join(parts), complete=False)
        if not stream.eof:
            return Decompressed(b"".join(parts), complete=False)
        position = min(position, len(data)) - len(stream.unused_data)
        if data[position : position + 2] != b"\x1f\x8b":
            break
    return Decompressed(b"".join(parts), complete=True)


def _unbrotli(data: bytes, max_bytes: int) -> Decompressed:
    """Brotli has no magic: text that does not decode was stored decoded."""
    stream = brotli.Decompressor()
    parts: list[bytes] = []
    total = 0
    try:
        part = stream.process(data, output_buffer_limit=_BROTLI_OUTPUT)
        while True:
            total += len(part)
            if total > max_bytes:
                raise _too_large("br", len(data), max_bytes)
            parts.append(part)
            if stream.is_finished() or not part:
                break
            part = stream.process(b"", output_buffer_limit=_BROTLI_OUTPUT)
    except brotli.error:
        if _looks_textual(data):
            return Decompressed(data, complete=True)
        if not total:
            raise ContentCodingError(f"br body of {len(data)} bytes does not decode") from None
        return Decompressed(b"".join(parts), complete=False)
    if not stream.is_finished() and _looks_textual(data):
        return Decompressed(data, complete=True)
    return Decompressed(b"".join(parts), complete=bool(stream.is_finished()))


def _unzstd(data: bytes, max_bytes: int) -> Decompressed:
    if not data.startswith(b"\x28\xb5\x2f\xfd"):
        return Decompressed(data, complete=True)
    parts: list[bytes] = []
    total = 0
    rest = data
    while rest.startswith(b"\x28\xb5\x2f\xfd"):
        frame = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
        position = 0
        try:
            while position < len(rest) and not frame.eof:
                part = frame.decompress(rest[position : position + _ZSTD_FEED])
                position += _ZSTD_FEED
                total += len(part)
                if total > max_bytes:
                    raise _too_large("zstd", len(data), max_bytes)
                parts.append(part)
        except zstandard.ZstdError as error:
            if not total:
                raise ContentCodingError(
                    f"zstd body of {len(data)} bytes does not decode: {error}"
                ) from None
            return Decompressed(b"".join(parts), complete=False)
        if not frame.eof:
            return Decompressed(b"".join(parts), complete=False)
        rest = frame.unused_data + rest[position:]
    return Decompressed(b"".join(parts), complete=True)


def _reject_compress(data: bytes, max_bytes: int) -> Decompressed:
    if not data.startswith(b"\x1f\x9d"):
        return Decompressed(data, complete=True)
    raise ContentCodingError(
        f"body of {len(data)} bytes is in the coding 'compress' (LZW), which is not supported; "
        "no current browser accepts it"
    )


def _looks_textual(data: bytes) -> bool:
    """Whether the first bytes hold none that never occur in text (WHATWG MIME Sniffing, 3)."""
    return not _BINARY.search(data[:1445])


_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")


def _too_large(coding: str, size: int, max_bytes: int) -> ExpansionTooLarge:
    return ExpansionTooLarge(
        f"{coding} body of {size} bytes expands to more than {max_bytes} bytes; "
        "raise max_expanded_bytes to read it"
    )


_CODINGS: dict[str, Callable[[bytes, int], Decompressed]] = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _undo_deflate,
    "br": _unbrotli,
    "zstd": _unzstd,
    "compress": _reject_compress,
    "x-compress": _reject_compress,
}
