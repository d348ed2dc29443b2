"""Token shards: a folder of plain arrays that a trainer maps into memory. See docs/shards.md.

This module builds the contents of shards; ``tokenizer.shard_set`` reads them.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tokenizer.packing import Packed

FORMAT = "cidermill-shards"
VERSION = 1
INDEX = "index.json"

DOCUMENTS = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("source", pa.string()),
        ("language", pa.string()),
        ("bytes", pa.int64()),
        ("tokens", pa.int64()),
    ]
)
"""What is known of the documents of a shard, in the order in which pieces number them: ``bytes``
of UTF-8 text, ``tokens`` with the eos."""


@dataclass(frozen=True)
class Shard:
    """The contents of one shard.

    ``tokens`` is (windows, length); ``packed`` tells what lies in it; ``documents`` has a row for
    each document, by ``DOCUMENTS``.
    """

    name: str
    source: str
    tokens: NDArray[Any]
    packed: Packed
    documents: pa.Table

    def files(self) -> dict[str, bytes]:
        """The files of the shard by name; the same shard gives the same bytes."""
        return {
            f"{self.name}.tokens.npy": _npy(self.tokens),
            f"{self.name}.windows.npy": _npy(self.packed.starts.astype("<u8")),
            f"{self.name}.pieces.npy": _npy(self.packed.pieces),
            f"{self.name}.documents.parquet": _parquet(self.documents),
        }

    def entry(self, contents: Mapping[str, bytes]) -> dict[str, Any]:
        """What the index says of the shard whose files these are."""
        return {
            "name": self.name,
            "source": self.source,
            "windows": self.packed.windows,
            "documents": self.documents.num_rows,
            "tokens": self.packed.tokens,
            "bytes": int(np.sum(self.documents["bytes"].to_numpy(), dtype=np.int64)),
            "padding": self.packed.padding,
            "cut_documents": self.packed.cut_documents,
            "files": {
                name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                for name, content in contents.items()
            },
        }


def build(
    name: str,
    source: str,
    packed: Packed,
    tokens: Sequence[NDArray[Any]],
    documents: pa.Table,
    *,
    pad: int,
    dtype: np.dtype[Any],
) -> Shard:
    """Fill the windows of a shard.

    ``tokens`` holds the ids of each document, eos included, as ``packed`` was told their lengths.

    Raises:
      ValueError: documents, their tokens and their rows do not agree.
    """
    if not len(tokens) == documents.num_rows:
        raise ValueError(f"{len(tokens)} documents with tokens, but {documents.num_rows} rows")
    if documents["tokens"].to_pylist() != [len(ids) for ids in tokens]:
        raise ValueError("the rows of documents tell other numbers of tokens than there are")
    windows = np.full((packed.windows, packed.length), pad, dtype=dtype)
    flat = windows.reshape(-1)
    bounds = packed.starts.tolist()
    rows = packed.pieces.tolist()
    for window in range(packed.windows):
        place = window * packed.length
        for document, length, offset in rows[bounds[window] : bounds[window + 1]]:
            flat[place : place + length] = tokens[document][offset : offset + length]
            place += length
    return Shard(name, source, windows, packed, documents)


def make_index(
    entries: Iterable[Mapping[str, Any]],
    *,
    length: int,
    dtype: np.dtype[Any],
    tokenizer: Mapping[str, Any],
    packing: Mapping[str, Any],
    held_out: str | None = None,
) -> dict[str, Any]:
    """The index of a folder of shards.

    ``tokenizer`` has the keys sha256, vocab_size, pad, eos; ``packing`` what was asked for;
    ``held_out`` is the SHA-256 of the file of documents that no shard holds.

    Raises:
      ValueError: two shards of one name.
    """
    shards = sorted(entries, key=lambda entry: str(entry["name"]))
    for first, second in itertools.pairwise(shards):
        if first["name"] == second["name"]:
            raise ValueError(f"two shards are called {first['name']}")
    return {
        "format": FORMAT,
        "version": VERSION,
        "sequence_length": length,
        "dtype": dtype.str,
        "tokenizer": dict(tokenizer),
        "packing": dict(packing),
        "held_out": held_out,
        "totals": {
            key: sum(int(entry[key]) for entry in shards)
            for key in ("windows", "documents", "tokens", "bytes", "padding", "cut_documents")
        },
        "shards": shards,
    }


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(
        buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False
    )
    return buffer.getvalue()


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", compression_level=3)
    return buffer.getvalue()
