"""Compressed inputs: told by their magic, bounded, and picked up again after damage."""

from __future__ import annotations

import gzip
import io
import zlib

import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources import compression
from pipelines.sources.compression import Block, decoded_blocks

PARTS = [b"".join(b"part %d line %d\n" % (p, i * i) for i in range(400)) for p in range(5)]
CODERS = {"gzip": gzip.compress, "lz4": lz4.frame.compress, "zstd": zstandard.compress}


def blocks(data: bytes) -> list[Block]:
    return list(decoded_blocks(io.BytesIO(data)))


def text(found: list[Block]) -> bytes:
    return b"".join(block.data for block in found)


def errors(found: list[Block]) -> list[str]:
    return [block.error for block in found if block.error]


@pytest.mark.parametrize("name", CODERS)
def test_members_tell_their_offsets(name: str) -> None:
    members = [CODERS[name](part) for part in PARTS]
    found = blocks(b"".join(members))
    assert text(found) == b"".join(PARTS)
    assert not errors(found)
    starts = [block.offset for block in found if block.starts_member]
    assert starts == [sum(map(len, members[:i])) for i in range(len(members))]


def test_plain_bytes_pass_through() -> None:
    found = blocks(b"plain text")
    assert (text(found), found[0].compressed) == (b"plain text", False)
    assert blocks(b"") == []


@pytest.mark.parametrize("name", CODERS)
@pytest.mark.parametrize("bad", [0, 2, 4])
def test_a_damaged_member_costs_only_itself(name: str, bad: int) -> None:
    members = [bytearray(CODERS[name](part)) for part in PARTS]
    middle = len(members[bad]) // 2
    members[bad][middle : middle + 8] = bytes(b ^ 0xA5 for b in members[bad][middle : middle + 8])
    found = blocks(b"".join(members))
    if name == "zstd" and not errors(found):
        pytest.skip("frames without a checksum cannot show this damage")
    assert errors(found) == ["DamagedMember"]
    for index, part in enumerate(PARTS):
        assert (part in text(found)) is (index != bad)


def test_what_a_damaged_member_gave_before_the_damage_is_kept() -> None:
    member = bytearray(gzip.compress(b"".join(PARTS)))
    member[len(member) * 3 // 4] ^= 0xFF
    found = blocks(bytes(member))
    assert errors(found) == ["DamagedMember"]
    assert text(found).startswith(PARTS[0] + PARTS[1])


def test_wrong_checksum_is_damage() -> None:
    member = bytearray(gzip.compress(PARTS[0]))
    member[-6] ^= 1
    found = blocks(bytes(member) + gzip.compress(PARTS[1]))
    assert errors(found) == ["DamagedMember"]
    assert "incorrect data check" in next(block.message for block in found if block.error)
    assert text(found) == PARTS[0] + PARTS[1]


@pytest.mark.parametrize("name", CODERS)
def test_truncated_input_says_so_and_keeps_the_rest(name: str) -> None:
    whole, cut = CODERS[name](PARTS[0]), CODERS[name](PARTS[1])[:-10]
    found = blocks(whole + cut)
    assert errors(found) == ["TruncatedMember"]
    assert f"input ends inside the {name} member at offset {len(whole)}" in found[-1].message
    assert text(found).startswith(PARTS[0])


def test_member_cut_short_in_the_middle_is_passed() -> None:
    members = [gzip.compress(part) for part in PARTS]
    members[1] = members[1][: len(members[1]) // 2]
    found = blocks(b"".join(members))
    assert len(errors(found)) == 1
    assert all(part in text(found) for part in (PARTS[0], *PARTS[2:]))


def test_garbage_between_members_is_counted_and_zeros_at_the_end_are_not_damage() -> None:
    first, second = gzip.compress(PARTS[0]), gzip.compress(PARTS[1])
    found = blocks(first + b"\x00garbage\x1f\x8b\x08!" + second + b"\0" * 5000)
    assert errors(found) == ["BadMember"]
    assert f"12 bytes at offset {len(first)} are no gzip member" in found[1].message
    assert text(found) == PARTS[0] + PARTS[1]


def test_dictionary_in_a_leading_skippable_frame() -> None:
    dictionary = zstandard.ZstdCompressionDict(PARTS[0][:2000])
    coder = zstandard.ZstdCompressor(dict_data=dictionary)
    frames = b"".join(coder.compress(part) for part in PARTS)
    for stored in (dictionary.as_bytes(), zstandard.compress(dictionary.as_bytes())):
        head = b"\x5d\x2a\x4d\x18" + len(stored).to_bytes(4, "little") + stored
        assert text(blocks(head + frames)) == b"".join(PARTS)
        assert errors(blocks(head[: len(head) // 2])) == ["BadDictionary"]


@pytest.mark.parametrize("name", ["zstd", "lz4"])
def test_other_skippable_frames_are_passed_over(name: str) -> None:
    skip = b"\x51\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"notes"
    member = CODERS[name](PARTS[0])
    assert text(blocks(skip + member + skip + member)) == PARTS[0] * 2


@pytest.mark.parametrize("name", CODERS)
def test_bomb_is_cut_off_and_the_next_member_is_read(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "BOMB_BYTES", 1 << 20)
    monkeypatch.setattr(compression, "BOMB_RATIO", 100)
    bomb = CODERS[name](b"\0" * (24 << 20))
    found = blocks(bomb + CODERS[name](PARTS[0]))
    assert errors(found) == ["DamagedMember"]
    assert "over 100 to one" in next(block.message for block in found if block.error)
    assert text(found).endswith(PARTS[0])


@pytest.mark.parametrize("name", CODERS)
def test_reads_of_any_size_give_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"".join(CODERS[name](part) for part in PARTS)
    data = data[:300] + b"\xff\xff\xff" + data[303:]
    whole = blocks(data)
    monkeypatch.setattr(compression, "READ_BYTES", 97)
    pieces = blocks(data)
    assert errors(pieces) == errors(whole)
    assert all((part in text(pieces)) == (part in text(whole)) for part in PARTS)


HEADS = st.sampled_from(
    [b"", b"\x1f\x8b", b"\x1f\x8b\x08", b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd"]
)


@given(HEADS, st.binary(max_size=300))
def test_any_bytes_come_to_an_end(head: bytes, data: bytes) -> None:
    blocks(head + data)
    blocks(zlib.compress(data, wbits=31) + head + data)
