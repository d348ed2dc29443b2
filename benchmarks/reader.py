"""How fast windows are read from token shards: tokens a second, beside plain slicing of one array.

    python benchmarks/reader.py

Makes shards of 200 MB in a temporary folder, of documents of log-normal length, and reads them in
batches of eight windows, shuffled. Plain slicing copies windows of a memory-mapped array in the
order of a stored permutation, without segments or positions: the least a loader can do.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tokenizer.packing import pack  # noqa: E402
from tokenizer.reader import WindowReader  # noqa: E402
from tokenizer.shard_set import ShardSet  # noqa: E402
from tokenizer.shards import DOCUMENTS, INDEX, build, make_index  # noqa: E402

LENGTH, SHARDS, SHARD_TOKENS, BATCH = 4096, 4, 25_000_000, 8
TYPE = np.dtype("<u2")


def make(folder: Path) -> None:
    """Shards of made-up tokens."""
    rng = np.random.default_rng(0)
    entries = []
    for number in range(SHARDS):
        lengths = rng.lognormal(6.2, 1.2, 20_000).astype(np.int64) + 2
        lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), SHARD_TOKENS))]
        tokens = [rng.integers(2, 49_152, n).astype(TYPE) for n in lengths.tolist()]
        rows = {"id": [str(n) for n in range(len(lengths))]}
        rows |= {name: [""] * len(lengths) for name in ("url", "source", "language")}
        rows |= {"bytes": lengths * 4, "tokens": lengths}
        shard = build(
            f"web-{number:05d}", "web", pack(lengths, LENGTH), tokens,
            pa.table(rows, schema=DOCUMENTS), pad=0, dtype=TYPE,
        )  # fmt: skip
        contents = shard.files()
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        entries.append(shard.entry(contents))
    index = make_index(entries, length=LENGTH, dtype=TYPE, tokenizer={}, packing={})
    (folder / INDEX).write_text(json.dumps(index))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        make(Path(name))
        shards = ShardSet.open(name)
        total = sum(shards.windows().values())
        print(f"{total} windows of {LENGTH} tokens in {SHARDS} shards, batches of {BATCH}")
        for turn in ("cold", "warm"):
            began = time.perf_counter()
            read = sum(len(batch["tokens"]) for batch in WindowReader(shards, seed=1, batch=BATCH))
            ours = read * LENGTH / (time.perf_counter() - began)
            began = time.perf_counter()
            for shard in shards.shards:
                order = np.random.default_rng(1).permutation(shard.windows)
                for start in range(0, len(order), BATCH):
                    shard.tokens[np.sort(order[start : start + BATCH])].astype(np.int32)
            plain = total * LENGTH / (time.perf_counter() - began)
            print(
                f"{turn}: {ours / 1e6:.0f} million tokens/s, {ours / LENGTH:.0f} windows/s; plain "
                f"slicing {plain / 1e6:.0f}; ratio {ours / plain:.2f}"
            )


if __name__ == "__main__":
    main()
