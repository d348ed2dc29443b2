"""Token shards as Megatron-LM's indexed datasets, which several trainers read.

``PREFIX.bin`` holds the tokens of all documents one after the other; ``PREFIX.idx`` says where each
begins. Layout as in ``megatron/core/datasets/indexed_dataset.py`` of Megatron-LM: nine bytes of
magic, version 1, the code of the token type, the counts of sequences and of document marks, then
lengths (int32), byte offsets (int64) and document marks (int64), all little-endian. Each
document, eos included, is one sequence.
"""

from __future__ import annotations

import contextlib
import os
import struct
import uuid
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np

from tokenizer.shard_set import OpenShard

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
CODES = {"<u2": (8, "<u2"), "<u4": (4, "<i4")}
"""Type of our tokens: Megatron's code, and the type it reads. It has no unsigned 32 bits; ids of a
vocabulary are the same in both."""

MAX_LENGTH = (1 << 31) - 1


def export(shards: Iterable[OpenShard], prefix: str, dtype: str) -> int:
    """Write ``prefix.bin`` and ``prefix.idx`` from the documents of shards; gives how many.

    The tokens are streamed; in memory are 12 bytes a document. Both files appear when they are
    complete.

    Raises:
      ValueError: a document has more tokens than a length of the format can say.
    """
    code, kind = CODES[dtype]
    lengths: list[int] = []
    with _whole(f"{prefix}.bin") as out:
        for shard in shards:
            for tokens in shard.document_tokens():
                if len(tokens) > MAX_LENGTH:
                    raise ValueError(
                        f"{shard.name}: a document of {len(tokens)} tokens; the format holds at "
                        f"most {MAX_LENGTH}"
                    )
                out.write(tokens.astype(kind).tobytes())
                lengths.append(len(tokens))
    _write_index(f"{prefix}.idx", np.array(lengths, "<i4"), code, np.dtype(kind).itemsize)
    return len(lengths)


def _write_index(path: str, lengths: np.ndarray, code: int, size: int) -> None:
    offsets = np.cumsum(lengths, dtype="<i8") * size - lengths.astype("<i8") * size
    marks = np.arange(len(lengths) + 1, dtype="<i8")
    with _whole(path) as out:
        out.write(MAGIC)
        out.write(struct.pack("<QBQQ", VERSION, code, len(lengths), len(marks)))
        for array in (lengths, offsets, marks):
            out.write(array.tobytes())


@contextlib.contextmanager
def _whole(path: str) -> Iterator[BinaryIO]:
    """A file that is seen complete or not at all."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        with open(temporary, "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
