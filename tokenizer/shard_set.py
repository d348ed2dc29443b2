"""Token shards opened for reading: arrays mapped into memory, checked before they are."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tokenizer.packing import PIECE
from tokenizer.shards import DOCUMENTS, FORMAT, INDEX, VERSION

MAX_INDEX_BYTES = 1 << 30
MAX_HEADER_BYTES = 1 << 16
READ_BYTES = 1 << 20
FILES = ("tokens.npy", "windows.npy", "pieces.npy", "documents.parquet")
"""What the names of a shard's files end in."""


class ShardError(ValueError):
    """A folder that holds no shards, or damaged ones; the message names the file and the fault."""


@dataclass(frozen=True)
class OpenShard:
    """One shard: arrays in memory maps.

    ``tokens`` (windows, length); ``starts`` (windows + 1,), the first piece of each window;
    ``pieces`` (pieces,), of ``tokenizer.packing.PIECE``.
    """

    folder: str
    entry: Mapping[str, Any]
    tokens: NDArray[Any]
    starts: NDArray[np.uint64]
    pieces: NDArray[np.void]

    @property
    def name(self) -> str:
        """The shard's name."""
        return str(self.entry["name"])

    @property
    def source(self) -> str:
        """The source of its documents."""
        return str(self.entry["source"])

    @property
    def windows(self) -> int:
        """How many windows it has."""
        return len(self.tokens)

    def window_pieces(self, window: int) -> NDArray[np.void]:
        """The pieces of one window, in order of place.

        Raises:
          ShardError: the arrays contradict each other.
        """
        first, end = int(self.starts[window]), int(self.starts[window + 1])
        if not first < end <= len(self.pieces):
            raise ShardError(f"{self.name}: window {window} has the pieces {first} to {end}")
        found: NDArray[np.void] = self.pieces[first:end]
        if int(found["length"].sum(dtype=np.int64)) > self.tokens.shape[1]:
            raise ShardError(f"{self.name}: the pieces of window {window} do not fit in it")
        return found

    def documents(self) -> pa.Table:
        """What is known of the documents, by ``tokenizer.shards.DOCUMENTS``.

        Raises:
          ShardError: the table cannot be read, or is of another schema.
        """
        path = os.path.join(self.folder, f"{self.name}.documents.parquet")
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise ShardError(f"{path}: {str(error).splitlines()[0]}") from None
        if table.schema != DOCUMENTS or table.num_rows != self.entry["documents"]:
            raise ShardError(f"{path} is not the table of {self.entry['documents']} documents")
        return table

    def document_tokens(self) -> Iterator[NDArray[Any]]:
        """The tokens of every document, eos included, put together from their pieces, in order."""
        counts = (self.starts[1:] - self.starts[:-1]).astype(np.int64)
        window_of = np.repeat(np.arange(self.windows), counts)
        lengths = self.pieces["length"].astype(np.int64)
        before = np.cumsum(lengths) - lengths
        first = self.starts[:-1].astype(np.int64)
        place = before - before[first][window_of] if len(first) else before
        order = np.lexsort((self.pieces["offset"], self.pieces["document"]))
        bounds = np.flatnonzero(np.diff(self.pieces["document"][order].astype(np.int64))) + 1
        for group in np.split(order, bounds) if len(order) else ():
            yield np.concatenate(
                [self.tokens[window_of[p], place[p] : place[p] + lengths[p]] for p in group]
            )


class ShardSet:
    """All shards of a folder on this machine. ``shards`` are in order of name."""

    def __init__(
        self, folder: str, index: Mapping[str, Any], shards: tuple[OpenShard, ...]
    ) -> None:
        self.folder = folder
        self.index = index
        self.shards = shards

    @classmethod
    def open(cls, folder: str) -> ShardSet:
        """Map the shards of a folder, after a look at the index and the size of every file.

        Raises:
          ShardError: no shards, of a later version, or files that are not as the index says.
        """
        index = _read_index(folder)
        try:
            shards = tuple(_open_shard(folder, entry, index) for entry in index["shards"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ShardError(f"{os.path.join(folder, INDEX)} is damaged: {error!r}") from None
        return cls(folder, index, shards)

    @property
    def length(self) -> int:
        """Tokens a window."""
        return int(self.index["sequence_length"])

    @property
    def digest(self) -> str:
        """What a reader's state is bound to: the SHA-256 of the index."""
        content = json.dumps(self.index, sort_keys=True).encode()
        return hashlib.sha256(content).hexdigest()

    def windows(self) -> dict[str, int]:
        """The number of windows of each source."""
        found: dict[str, int] = {}
        for shard in self.shards:
            found[shard.source] = found.get(shard.source, 0) + shard.windows
        return dict(sorted(found.items()))

    def verify(self) -> None:
        """Read every file and compare its SHA-256 with the index. Raises ``ShardError``."""
        for shard in self.shards:
            for own in FILES:
                name = f"{shard.name}.{own}"
                digest = hashlib.sha256()
                with open(os.path.join(self.folder, name), "rb") as handle:
                    while piece := handle.read(READ_BYTES):
                        digest.update(piece)
                if digest.hexdigest() != shard.entry["files"][name].get("sha256"):
                    raise ShardError(f"{name} is damaged: its digest is not that of the index")


def _read_index(folder: str) -> Mapping[str, Any]:
    path = os.path.join(folder, INDEX)
    try:
        if os.path.getsize(path) > MAX_INDEX_BYTES:
            raise ShardError(f"{path} has more than {MAX_INDEX_BYTES} bytes")
        with open(path, "rb") as handle:
            index = json.load(handle)
    except (FileNotFoundError, NotADirectoryError):
        raise ShardError(
            f"{folder} holds no shards: there is no {INDEX}; run `cidermill pack`"
        ) from None
    except (ValueError, RecursionError):
        raise ShardError(f"{path} is damaged: it is no JSON") from None
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ShardError(f"{path} is not the index of token shards")
    if index.get("version") != VERSION:
        raise ShardError(
            f"{path} is of version {index.get('version')!r}; this code reads version {VERSION}"
        )
    if index.get("dtype") not in ("<u2", "<u4"):
        raise ShardError(f"{path} is damaged: the type {index.get('dtype')!r} is not <u2 or <u4")
    length = index.get("sequence_length")
    if (
        not isinstance(length, int)
        or not 2 <= length < 1 << 32
        or not isinstance(index.get("shards"), list)
    ):
        raise ShardError(
            f"{path} is damaged: a sequence length of {length!r}, or no list of shards"
        )
    return index


def _open_shard(folder: str, entry: Mapping[str, Any], index: Mapping[str, Any]) -> OpenShard:
    name, windows = entry["name"], entry["windows"]
    if not isinstance(name, str) or os.path.basename(name) != name or name in ("", ".", ".."):
        raise ShardError(f"a shard of the name {name!r}")
    if not isinstance(windows, int) or not 0 <= windows < 1 << 40:
        raise ShardError(f"{name}: {windows!r} windows")
    for own in FILES:
        _check_size(folder, f"{name}.{own}", entry["files"])
    shape = (windows, index["sequence_length"])
    tokens = _map(folder, f"{name}.tokens.npy", np.dtype(index["dtype"]), shape)
    starts = _map(folder, f"{name}.windows.npy", np.dtype("<u8"), (windows + 1,))
    pieces = _map(folder, f"{name}.pieces.npy", PIECE, None)
    if int(starts[0]) != 0 or int(starts[-1]) != len(pieces):
        raise ShardError(f"{name}: its windows do not cover its {len(pieces)} pieces")
    return OpenShard(folder, entry, tokens, starts, pieces)


def _check_size(folder: str, name: str, files: Mapping[str, Any]) -> None:
    expected = files[name]["bytes"]
    try:
        size = os.path.getsize(os.path.join(folder, name))
    except OSError:
        raise ShardError(f"{name} is missing in {folder}") from None
    if size != expected:
        raise ShardError(f"{name} has {size} bytes, but the index says {expected}")


def _map(
    folder: str, name: str, dtype: np.dtype[Any], shape: tuple[int, ...] | None
) -> NDArray[Any]:
    """An array file in a read-only map, after its header was held against what is expected."""
    path = os.path.join(folder, name)
    try:
        with open(path, "rb") as handle:
            version = np.lib.format.read_magic(handle)
            if version != (1, 0):
                raise ShardError(f"{name}: version {version} of the array format")
            found, fortran, own = np.lib.format.read_array_header_1_0(
                handle, max_header_size=MAX_HEADER_BYTES
            )[::-1]
            offset = handle.tell()
    except ShardError:
        raise
    except Exception as error:
        # Numpy reads a header as Python's own text, and a damaged one fails in many ways.
        raise ShardError(f"{name} is no array: {type(error).__name__} in its header") from None
    if found != dtype or fortran or len(own) != len(shape or (0,)) or (shape and own != shape):
        raise ShardError(
            f"{name} holds {found} of {own}, not {dtype} of {shape or 'one dimension'}"
        )
    if offset + int(np.prod(own, dtype=object)) * dtype.itemsize != os.path.getsize(path):
        raise ShardError(f"{name} is not as large as its header says")
    if 0 in own:
        return np.zeros(own, dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=own)
