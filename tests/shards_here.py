"""Small sets of shards for tests: made-up documents, whose tokens tell where they come from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tokenizer.packing import pack
from tokenizer.shards import DOCUMENTS, INDEX, build, make_index

EOS, PAD = 1, 0


def documents_of(source: str, lengths: Sequence[int], first: int = 0) -> list[np.ndarray]:
    """Documents of these lengths, eos included, no two alike."""
    start = sum(map(ord, source))
    return [
        np.append((start + (first + n) * 97 + np.arange(length - 1)) % 60_000 + 10, EOS).astype(
            "<u2"
        )
        for n, length in enumerate(lengths)
    ]


def rows_of(source: str, tokens: Sequence[np.ndarray]) -> pa.Table:
    """A row for each document."""
    count = len(tokens)
    return pa.table(
        {
            "id": [f"{source}-{n}" for n in range(count)],
            "url": [f"http://{source}.example/{n}" for n in range(count)],
            "source": [source] * count,
            "language": ["en"] * count,
            "bytes": [len(ids) * 4 for ids in tokens],
            "tokens": [len(ids) for ids in tokens],
        },
        schema=DOCUMENTS,
    )


def write_shards(
    folder: Path, shards: Mapping[str, Sequence[int]], window: int = 16, method: str = "best-fit"
) -> dict[str, list[np.ndarray]]:
    """Write shards by name (SOURCE-NUMBER) and lengths of documents; gives their tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    written = {}
    for name, lengths in shards.items():
        source = name.rpartition("-")[0]
        tokens = documents_of(source, lengths, first=int(name.rpartition("-")[2]) * 1000)
        packed = pack(np.array([len(ids) for ids in tokens], np.int64), window, method)
        shard = build(
            name, source, packed, tokens, rows_of(source, tokens), pad=PAD, dtype=np.dtype("<u2")
        )
        contents = shard.files()
        for file, content in contents.items():
            (folder / file).write_bytes(content)
        entries.append(shard.entry(contents))
        written[name] = tokens
    index = make_index(
        entries,
        length=window,
        dtype=np.dtype("<u2"),
        tokenizer={"sha256": "0" * 64, "vocab_size": 60_100, "pad": PAD, "eos": EOS},
        packing={"method": method},
    )
    (folder / INDEX).write_text(json.dumps(index))
    return written
