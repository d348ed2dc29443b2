"""Transfer and content codings: undone, tolerated where absent, bounded where hostile."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from filters.content_encoding import (
    ContentCodingError,
    ExpansionTooLarge,
    content_codings,
    dechunk,
    undo_content_codings,
)

TEXT = b"<html><body>" + b"".join(b"line %d of the page\n" % i for i in range(3000))
CAP = 1 << 20


def raw_deflate(data: bytes) -> bytes:
    codec = zlib.compressobj(wbits=-15)
    return codec.compress(data) + codec.flush()


CODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}


@pytest.mark.parametrize("coding", CODERS)
def test_each_coding_is_undone(coding: str) -> None:
    result = undo_content_codings(CODERS[coding](TEXT), [coding], CAP)
    assert (result.data, result.complete) == (TEXT, True)


@pytest.mark.parametrize("coding", CODERS)
def test_body_stored_decoded_is_taken_as_it_is(coding: str) -> None:
    result = undo_content_codings(TEXT, [coding], CAP)
    assert (result.data, result.complete) == (TEXT, True)


@pytest.mark.parametrize("coding", CODERS)
def test_truncated_body_keeps_what_there_is(coding: str) -> None:
    coded = CODERS[coding](TEXT)
    result = undo_content_codings(coded[: len(coded) * 3 // 4], [coding], CAP)
    assert not result.complete
    assert TEXT.startswith(result.data)


def test_damage_keeps_what_came_before_it() -> None:
    noise = random.Random(3).randbytes(20_000).hex().encode()
    coded = bytearray(gzip.compress(noise))
    middle = len(coded) // 2
    coded[middle : middle + 40] = b"\xff" * 40
    result = undo_content_codings(bytes(coded), ["gzip"], CAP)
    assert not result.complete
    assert len(result.data) > len(noise) // 4
    assert noise.startswith(result.data[: len(noise) // 4])


@pytest.mark.parametrize("coding", CODERS)
def test_expansion_is_bounded_at_exactly_the_cap(coding: str) -> None:
    coded = CODERS[coding](b"a" * CAP)
    assert len(undo_content_codings(coded, [coding], CAP).data) == CAP
    with pytest.raises(ExpansionTooLarge, match=f"more than {CAP - 1} bytes; raise max_expanded"):
        undo_content_codings(coded, [coding], CAP - 1)


def test_bomb_of_two_layers_is_refused() -> None:
    bomb = gzip.compress(gzip.compress(b"\0" * (64 << 20)))
    assert len(bomb) < 2000
    with pytest.raises(ExpansionTooLarge):
        undo_content_codings(bomb, ["gzip", "gzip"], CAP)


def test_stacked_codings_are_undone_in_reverse() -> None:
    coded = brotli.compress(gzip.compress(TEXT))
    assert undo_content_codings(coded, ["gzip", "br"], CAP).data == TEXT


def test_raw_deflate_and_members_and_trailing_bytes() -> None:
    assert undo_content_codings(raw_deflate(TEXT), ["deflate"], CAP).data == TEXT
    two = gzip.compress(b"one ") + gzip.compress(b"two")
    assert undo_content_codings(two, ["gzip"], CAP).data == b"one two"
    assert undo_content_codings(two + b"\r\n", ["gzip"], CAP).complete


def test_unknown_codings_are_passed_over_and_lzw_is_refused() -> None:
    assert undo_content_codings(TEXT, ["utf-8", "none", "identity"], CAP).data == TEXT
    with pytest.raises(ContentCodingError, match="compress"):
        undo_content_codings(b"\x1f\x9d\x90abc", ["x-compress"], CAP)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_body_that_yields_nothing_is_an_error(coding: str) -> None:
    magic = {"gzip": b"\x1f\x8b\x08\x00" + b"\0" * 6, "zstd": b"\x28\xb5\x2f\xfd"}.get(coding, b"")
    with pytest.raises(ContentCodingError, match=f"{coding} body of"):
        undo_content_codings(magic + b"\xff\x00\xff\x07" * 9, [coding], CAP)


def test_header_value_is_split_and_lowered() -> None:
    assert content_codings(" GZip, br ,") == ["gzip", "br"]
    assert content_codings("") == []


@pytest.mark.parametrize(
    ("body", "data", "complete"),
    [
        (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world", True),
        (b"5\nhello\n0\n\n", b"hello", True),
        (b"5;name=value\r\nhello\r\n0\r\nTrailer: x\r\n\r\n", b"hello", True),
        (b"0005  \r\nhello\r\n00\r\n", b"hello", True),
        (b"5\r\nhello\r\n", b"hello", False),
        (b"5\r\nhello\r\n9\r\nwor", b"hellowor", False),
        (b"5\r\nhello\r\nzz\r\nworld", b"hello", False),
        (b"5\r\nhelloXX", b"5\r\nhelloXX", True),
        (b"<html>stored decoded", b"<html>stored decoded", True),
        (b"", b"", True),
    ],
)
def test_dechunk(body: bytes, data: bytes, complete: bool) -> None:
    result = dechunk(body)
    assert (result.data, result.complete) == (data, complete)


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8))
def test_chunks_round_trip(parts: list[bytes]) -> None:
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    result = dechunk(body)
    assert (result.data, result.complete) == (b"".join(parts), True)


CODINGS = st.lists(st.sampled_from([*CODERS, "compress"]), max_size=2)
MAGICS = st.sampled_from([b"", b"\x1f\x8b\x08\0\0\0\0\0\0\0", b"\x78\x9c", b"\x28\xb5\x2f\xfd"])


@given(MAGICS, st.binary(max_size=200), CODINGS)
def test_any_bytes_decode_or_raise_the_one_error(
    magic: bytes, body: bytes, codings: list[str]
) -> None:
    dechunk(magic + body)
    try:
        result = undo_content_codings(magic + body, codings, 1000)
    except ContentCodingError:
        return
    assert len(result.data) <= max(1000, len(magic + body))
