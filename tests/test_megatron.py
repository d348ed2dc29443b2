"""The export to Megatron's format, read back by its layout."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shards_here import rows_of, write_shards

from tokenizer import megatron
from tokenizer.packing import pack
from tokenizer.shard_set import OpenShard, ShardSet
from tokenizer.shards import build


def read(prefix) -> list[list[int]]:
    """The sequences of a dataset, as Megatron's own reader finds them."""
    with open(f"{prefix}.idx", "rb") as handle:
        assert handle.read(9) == b"MMIDIDX\x00\x00"
        version, code, sequences, documents = struct.unpack("<QBQQ", handle.read(25))
        assert (version, documents) == (1, sequences + 1)
        lengths = np.frombuffer(handle.read(4 * sequences), "<i4")
        offsets = np.frombuffer(handle.read(8 * sequences), "<i8")
        marks = np.frombuffer(handle.read(8 * documents), "<i8")
        assert handle.read() == b""
    assert marks.tolist() == list(range(sequences + 1))
    kind = {4: "<i4", 8: "<u2"}[code]
    with open(f"{prefix}.bin", "rb") as handle:
        content = handle.read()
    assert len(content) == lengths.sum() * np.dtype(kind).itemsize
    return [
        np.frombuffer(content, kind, count=length, offset=offset).tolist()
        for length, offset in zip(lengths.tolist(), offsets.tolist(), strict=True)
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=15), st.integers(1, 9))
def test_every_document_is_a_sequence_in_order(tmp_path, lengths, more):
    written = write_shards(tmp_path, {"web-00000": lengths, "web-00001": [more]})
    prefix = tmp_path / "export" / "web"
    assert (
        megatron.export(ShardSet.open(str(tmp_path)).shards, str(prefix), "<u2") == len(lengths) + 1
    )
    expected = [ids.tolist() for name in sorted(written) for ids in written[name]]
    assert read(prefix) == expected
    assert sorted(path.name for path in prefix.parent.iterdir()) == ["web.bin", "web.idx"]


def test_large_vocabularies_are_written_in_four_bytes(tmp_path):
    ids = np.array([70_000, 5, 1], "<u4")
    shard = build("a-0", "a", pack(np.array([3]), 4), [ids], rows_of("a", [ids]),
                  pad=0, dtype=np.dtype("<u4"))  # fmt: skip
    opened = OpenShard("", {"name": "a"}, shard.tokens, shard.packed.starts, shard.packed.pieces)
    megatron.export([opened], str(tmp_path / "a"), "<u4")
    assert read(tmp_path / "a") == [[70_000, 5, 1]]


def test_no_documents_are_an_empty_dataset(tmp_path):
    assert megatron.export([], str(tmp_path / "none"), "<u2") == 0
    assert read(tmp_path / "none") == []


def test_a_document_that_is_too_long_leaves_nothing_behind(tmp_path, monkeypatch):
    write_shards(tmp_path / "s", {"web-00000": [5, 9]})
    monkeypatch.setattr(megatron, "MAX_LENGTH", 8)
    with pytest.raises(ValueError, match="web-00000: a document of 9 tokens; the format holds at"):
        megatron.export(
            ShardSet.open(str(tmp_path / "s")).shards, str(tmp_path / "x" / "web"), "<u2"
        )
    assert list((tmp_path / "x").iterdir()) == []
