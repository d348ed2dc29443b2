"""The index of benchmark n-grams: what a document is looked up in.

An index is a folder:

    header.json   schema version, counts, SHA-256 of the content
    hashes.npy    <u8, the different n-gram hashes, rising
    sizes.npy     |u1, n of each
    starts.npy    <i8, one more than hashes: where the items of each hash begin in owners
    owners.npy    <u4, item numbers, rising within a hash
    filter.npy    |u1, a Bloom filter of the hashes: for each, the bits at its high and low bits
    items.parquet benchmark, split, id, words, n (0: not looked for); row = item number

Arrays are memory-mapped, so that all processes of a machine share one copy. Nothing is pickled.
Items are numbered in sorted order, and the same items in any order give the same content.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from filters.decontamination.items import Item, demo_items
from filters.decontamination.storage import content_digest, join_digests, load_tables, save_tables
from filters.decontamination.tables import Tables, all_ngrams, compile_items
from filters.dedup.normalize import Hashes, find_words


class BenchmarkIndex:
    """One index, or several that are looked up as one.

    ``digest`` is the SHA-256 of what the indexes hold, whatever their folders are called.
    """

    def __init__(self, tables: tuple[Tables, ...], digest: str) -> None:
        self.tables = tables
        self.digest = digest
        self._sizes = tuple(sorted({int(n) for table in tables for n in np.unique(table.sizes)}))

    def ngrams(self, words: Hashes) -> tuple[Hashes, NDArray[np.int64]]:
        """All n-grams of a text, for each n that occurs in the index: hashes and first words."""
        return all_ngrams(words, self._sizes)

    def hashes(self, text: str) -> Hashes:
        """The different benchmark n-grams of a text as sorted hashes."""
        hashes, _ = self.ngrams(find_words(text).hashes)
        found = [hashes[table.find(hashes)[0]] for table in self.tables]
        return np.unique(np.concatenate([*found, np.empty(0, np.uint64)]))

    def benchmarks(self) -> list[tuple[str, int]]:
        """Names of benchmarks and how many of their items are looked for, sorted by name."""
        counts: dict[str, int] = {}
        for table in self.tables:
            names = table.items.column("benchmark").to_pylist()
            for name, n in zip(names, table.items.column("n").to_pylist(), strict=True):
                counts[name] = counts.get(name, 0) + (n > 0)
        return sorted(counts.items())


@dataclass(frozen=True, slots=True)
class BuildSummary:
    """What went into an index.

    ``skipped`` items are not looked for: they are shorter than the shortest n-gram, or
    enumerations only (see ``compile_items``).
    """

    items: int
    skipped: int
    benchmarks: int
    ngrams: int


@functools.cache
def demo_index() -> BenchmarkIndex:
    """An index of the invented benchmark that comes with the package."""
    return index_of(demo_items())


def index_of(items: Iterable[Item]) -> BenchmarkIndex:
    """An index in memory, for a few items."""
    tables = compile_items(items)
    return BenchmarkIndex((tables,), content_digest(tables))


def build_index(items: Iterable[Item], folder: str) -> BuildSummary:
    """Build an index of ``items`` in a new folder."""
    tables = compile_items(items)
    save_tables(tables, folder)
    sizes = tables.items.column("n").to_numpy()
    return BuildSummary(
        items=int((sizes > 0).sum()),
        skipped=int((sizes == 0).sum()),
        benchmarks=len(tables.items.column("benchmark").unique()),
        ngrams=len(tables.hashes),
    )


def open_index(*folders: str) -> BenchmarkIndex:
    """The indexes in one or more folders as one index."""
    loaded = [load_tables(folder) for folder in folders]
    return BenchmarkIndex(tuple(t for t, _ in loaded), join_digests([d for _, d in loaded]))
