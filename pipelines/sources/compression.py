"""Raw bytes to decoded blocks: gzip, zstd, LZ4 or plain, told apart by their magic bytes.

Archives hold one compressed member (or frame) for each record, so that a damaged one costs one
record: after damage, reading goes on at the next bytes that begin a member and decode. Each step
gives a codec so few bytes that its output stays below about 32 MiB, whatever they hold; a member
that expands without end is cut off and reported.

Sources: RFC 1952 (gzip), RFC 8878 (zstd), LZ4 frame format 1.6.2, and the WARC zstd
specification of IIPC (dictionary in a leading skippable frame).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, Protocol

import lz4.frame
import zstandard

READ_BYTES = 1 << 20
"""Bytes asked of the stream at once."""

RETAINED_BYTES = 8 << 20
"""Raw bytes of a member that are kept, to look in them for the next member after damage."""

BOMB_BYTES = 256 << 20
BOMB_RATIO = 500
"""A member is cut off once it has given ``BOMB_BYTES`` at over ``BOMB_RATIO`` to one. Text packs 3
to 20 to one; deflate can reach 1032, zstd and LZ4 far more."""

_ZSTD_WINDOW = 1 << 27
_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a]")
_DICTIONARY = b"\x5d\x2a\x4d\x18"
_MAX_DICTIONARY = 64 << 20
_PROBE_BYTES = 512


@dataclass(frozen=True, slots=True)
class Block:
    """Some decoded bytes. ``offset`` is where their member begins in the raw input, or, without
    compression, where they stand themselves. ``error`` names damage met right after ``data``."""

    data: bytes
    offset: int
    starts_member: bool = False
    compressed: bool = True
    error: str = ""
    message: str = ""


class Decoder(Protocol):
    """One member being decoded."""

    def step(self, data: bytes) -> tuple[bytes, int, bool]:
        """Decode; returns the output, how many bytes were used, whether the member has ended."""


class DamagedMember(Exception):
    """A member that its codec refuses; ``salvaged`` is what it gave before the damage."""

    def __init__(self, problem: str, salvaged: bytes = b"") -> None:
        super().__init__(problem)
        self.salvaged = salvaged


class _Gzip:
    def __init__(self) -> None:
        self._codec = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def step(self, data: bytes) -> tuple[bytes, int, bool]:
        before = self._codec.copy()
        try:
            out = self._codec.decompress(data)
        except zlib.error as error:
            raise DamagedMember(str(error), _salvage(before, data)) from None
        return out, len(data) - len(self._codec.unused_data), self._codec.eof


def _salvage(codec: zlib._Decompress, data: bytes) -> bytes:
    """What ``data`` gives before its damage: a failing call of zlib discards its own output."""
    parts: list[bytes] = []
    try:
        for position in range(len(data)):
            parts.append(codec.decompress(data[position : position + 1]))
    except zlib.error:
        pass
    return b"".join(parts)


class _Zstd:
    def __init__(self, dictionary: zstandard.ZstdCompressionDict | None = None) -> None:
        codec = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=_ZSTD_WINDOW)
        self._codec = codec.decompressobj()

    def step(self, data: bytes) -> tuple[bytes, int, bool]:
        try:
            out = self._codec.decompress(data)
        except zstandard.ZstdError as error:
            raise DamagedMember(str(error)) from None
        return out, len(data) - len(self._codec.unused_data), self._codec.eof


class _Lz4:
    def __init__(self) -> None:
        self._codec = lz4.frame.LZ4FrameDecompressor()

    def step(self, data: bytes) -> tuple[bytes, int, bool]:
        try:
            out = self._codec.decompress(data)
        except (RuntimeError, ValueError, MemoryError) as error:
            raise DamagedMember(str(error)) from None
        unused = self._codec.unused_data or b""
        return out, len(data) - len(unused), bool(self._codec.eof)


@dataclass(frozen=True, slots=True)
class Codec:
    """How members of one compression begin, and how many bytes to decode in one step."""

    name: str
    magic: bytes
    feed: int
    decoder: Callable[[], Decoder]


GZIP = Codec("gzip", b"\x1f\x8b\x08", 1 << 15, _Gzip)
LZ4 = Codec("lz4", b"\x04\x22\x4d\x18", 1 << 16, _Lz4)
ZSTD = Codec("zstd", b"\x28\xb5\x2f\xfd", 1 << 10, _Zstd)


class _Source:
    """The raw stream with a look ahead: ``data[at:]`` is not consumed yet."""

    def __init__(self, stream: BinaryIO, base: int = 0) -> None:
        self._stream = stream
        self._base = base
        self.data = b""
        self.at = 0
        self.ended = False

    @property
    def offset(self) -> int:
        """The raw position of the next byte."""
        return self._base + self.at

    def __len__(self) -> int:
        return len(self.data) - self.at

    def more(self) -> bool:
        """Append the next piece of the stream; false at its end."""
        piece = b"" if self.ended else self._stream.read(READ_BYTES)
        self.ended = not piece
        if piece:
            self._base += self.at
            self.data = self.data[self.at :] + piece
            self.at = 0
        return not self.ended

    def ensure(self, size: int) -> bool:
        """Have ``size`` bytes ahead, if the stream holds them."""
        while len(self) < size and self.more():
            pass
        return len(self) >= size

    def head(self, size: int, skip: int = 0) -> bytes:
        return self.data[self.at + skip : self.at + skip + size]

    def drop(self, size: int) -> None:
        self.at += size


def decoded_blocks(stream: BinaryIO, base: int = 0) -> Iterator[Block]:
    """All blocks of ``stream``, whatever its compression; damage is in the blocks, not raised.

    ``base`` is where the stream begins in its file; all offsets count from the file's start.
    """
    source = _Source(stream, base)
    dictionary, problem = _skippable_frames(source)
    if problem:
        yield Block(b"", 0, error="BadDictionary", message=problem)
        return
    codec = _compression_of(source)
    if codec is None:
        yield from _plain(source)
    elif codec is ZSTD and dictionary is not None:
        yield from _members(source, replace(ZSTD, decoder=lambda: _Zstd(dictionary)))
    else:
        yield from _members(source, codec)


def needs_dictionary(head: bytes) -> bool:
    """Whether a file with these first bytes has a zstd dictionary that every reader needs."""
    return head.startswith(_DICTIONARY)


def _compression_of(source: _Source) -> Codec | None:
    """The codec whose magic stands here; behind a damaged first member, that of the next one."""
    source.ensure(_PROBE_BYTES)
    for codec in (GZIP, LZ4, ZSTD):
        if source.head(2) == codec.magic[:2]:
            return codec
    # Text at the start means no compression, although its records may hold compressed bodies.
    if not _BINARY.search(source.head(16)) or b"WARC-Type" in source.head(_PROBE_BYTES):
        return None
    source.ensure(READ_BYTES)
    head = source.head(READ_BYTES)
    for codec in (GZIP, LZ4, ZSTD):
        found = head.find(codec.magic)
        while found >= 0:
            if _decodes(head[found : found + _PROBE_BYTES], codec):
                return codec
            found = head.find(codec.magic, found + 1)
    return None


def _plain(source: _Source) -> Iterator[Block]:
    while source.ensure(1):
        block = Block(source.head(len(source)), source.offset, compressed=False)
        source.drop(len(source))
        yield block


def _skippable_frames(source: _Source) -> tuple[zstandard.ZstdCompressionDict | None, str]:
    """Pass over skippable frames; one at the very start may hold the dictionary of all others."""
    dictionary: zstandard.ZstdCompressionDict | None = None
    while source.ensure(8) and _SKIPPABLE.match(source.data, source.at):
        magic = source.head(4)
        size = int.from_bytes(source.head(4, 4), "little")
        leading = source.offset == 0
        source.drop(8)
        if leading and magic == _DICTIONARY:
            if size > _MAX_DICTIONARY:
                return None, f"dictionary of {size} bytes exceeds {_MAX_DICTIONARY}"
            if not source.ensure(size):
                return None, f"dictionary of {size} bytes is cut off after {len(source)}"
            try:
                dictionary = _dictionary(source.head(size))
            except (zstandard.ZstdError, ValueError) as error:
                return None, f"dictionary of {size} bytes does not load: {error}"
        while size and source.ensure(1):
            step = min(size, len(source))
            source.drop(step)
            size -= step
    return dictionary, ""


def _dictionary(data: bytes) -> zstandard.ZstdCompressionDict:
    """The WARC zstd specification allows the dictionary to be compressed itself."""
    if data.startswith(ZSTD.magic):
        decoder = _Zstd()
        parts: list[bytes] = []
        for start in range(0, len(data), ZSTD.feed):
            try:
                part, _, ended = decoder.step(data[start : start + ZSTD.feed])
            except DamagedMember as error:
                raise ValueError(str(error)) from None
            parts.append(part)
            if sum(map(len, parts)) > _MAX_DICTIONARY:
                raise ValueError(f"it expands beyond {_MAX_DICTIONARY} bytes")
            if ended:
                break
        data = b"".join(parts)
    return zstandard.ZstdCompressionDict(data)


def _members(source: _Source, codec: Codec) -> Iterator[Block]:
    while source.ensure(1):
        source.ensure(8)
        if source.head(len(codec.magic)) == codec.magic:
            yield from _member(source, codec)
            continue
        if codec is not GZIP and _SKIPPABLE.match(source.data, source.at):
            _skippable_frames(source)
            continue
        if _only_zeros_left(source):
            return
        start = source.offset
        found = _seek_member(source, codec, 1)
        yield Block(
            b"",
            start,
            error="BadMember",
            message=f"{source.offset - start} bytes at offset {start} are no {codec.name} member"
            + ("" if found else "; no other follows"),
        )


def _only_zeros_left(source: _Source) -> bool:
    """Zero bytes up to the end, as tapes and preallocated files leave them, are no damage."""
    while not source.head(len(source)).strip(b"\0"):
        source.drop(len(source))
        if not source.more():
            return True
    return False


def _member(source: _Source, codec: Codec) -> Iterator[Block]:
    """Decode the member at the head of ``source``, and find the next one if it is damaged."""
    start = source.offset
    decoder = codec.decoder()
    used = 0  # bytes ahead in `source` that this member has used
    dropped = 0  # bytes it used before them
    given = 0
    fresh = True
    while True:
        if used >= len(source):
            if used > RETAINED_BYTES:
                source.drop(used)
                dropped, used = dropped + used, 0
            if not source.more():
                yield from _cut_off(source, codec, start, fresh, bool(dropped))
                return
        problem, out, ended = "", b"", False
        try:
            out, step, ended = decoder.step(source.head(codec.feed, used))
            used += step
            given += len(out)
        except DamagedMember as error:
            out = error.salvaged
            problem = f"{codec.name} member at offset {start} is damaged: {error}"
        if given > BOMB_BYTES and given > BOMB_RATIO * (used + dropped):
            problem = (
                f"{codec.name} member at offset {start} expands {used + dropped} bytes to more "
                f"than {given}, over {BOMB_RATIO} to one"
            )
        if problem:
            _seek_member(source, codec, 0 if dropped else 1)
            yield Block(out, start, fresh, error="DamagedMember", message=problem)
            return
        if out or fresh:
            yield Block(out, start, fresh)
            fresh = False
        if ended:
            source.drop(used)
            return


def _cut_off(
    source: _Source, codec: Codec, start: int, fresh: bool, dropped: bool
) -> Iterator[Block]:
    """The input ended inside a member. Its damage may have hidden the members behind it."""
    found = _seek_member(source, codec, 0 if dropped else 1)
    message = f"input ends inside the {codec.name} member at offset {start}"
    if found:
        message = (
            f"{codec.name} member at offset {start} has no end; the next is at {source.offset}"
        )
    yield Block(b"", start, fresh, error="TruncatedMember", message=message)


def _seek_member(source: _Source, codec: Codec, skip: int) -> bool:
    """Move to the next bytes that begin a member and decode; to the end if there are none."""
    while True:
        found = source.data.find(codec.magic, source.at + skip)
        if found >= 0:
            source.at = found
            source.ensure(_PROBE_BYTES)
            if _decodes(source.head(_PROBE_BYTES), codec):
                return True
            skip = 1
            continue
        source.at = max(source.at, len(source.data) - len(codec.magic) + 1)
        skip = 0
        if not source.more():
            source.at = len(source.data)
            return False


def _decodes(data: bytes, codec: Codec) -> bool:
    try:
        codec.decoder().step(data)
    except DamagedMember:
        return False
    return True
