"""Hits: where a document contains n-grams of benchmark items, and the one to show as evidence."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from filters.decontamination.index import BenchmarkIndex
from filters.dedup.normalize import Hashes, Words, find_words

HIT = np.dtype([("hash", "<u8"), ("word", "<u4"), ("n", "u1"), ("index", "u1"), ("row", "<u8")])
"""An occurrence of a benchmark n-gram: its hash, its first word in the document, its length in
words, and where its items are: which of the indexes, and the row in it."""


@dataclass(frozen=True, slots=True)
class Hit:
    """The evidence against a document.

    ``ngrams`` counts the different benchmark n-grams in the document; the rest is about the item
    with the most of them: how many are its own, and the first one, as words of the benchmark.
    """

    ngrams: int
    benchmark: str
    split: str
    item: str
    matched: int
    hash: int
    text: str


def find_hits(text: str, index: BenchmarkIndex) -> NDArray[np.void]:
    """Every occurrence of a benchmark n-gram in ``text``, in order of place, then length."""
    return hits_in(find_words(text), index)


def hits_in(words: Words, index: BenchmarkIndex) -> NDArray[np.void]:
    """``find_hits`` for words that are found already."""
    hashes, first = index.ngrams(words.hashes)
    parts = [np.empty(0, dtype=HIT)]
    for number, table in enumerate(index.tables):
        places, rows = table.find(hashes)
        part = np.empty(len(places), dtype=HIT)
        part["hash"] = hashes[places]
        part["word"] = first[places]
        part["n"] = table.sizes[rows]
        part["index"] = number
        part["row"] = rows
        parts.append(part)
    hits = np.concatenate(parts)
    return hits[np.lexsort((hits["index"], hits["n"], hits["word"]))]


def best_hit(text: str, index: BenchmarkIndex, exempt: Collection[int] = frozenset()) -> Hit | None:
    """The evidence that ``text`` contains a benchmark item, or None.

    ``exempt`` are hashes of n-grams in common usage, which do not count. The item with the most
    different n-grams in the text is shown; of equals, the first in the index.
    """
    words = find_words(text)
    return decide(words, hits_in(words, index), index, exempt)


def decide(
    words: Words, hits: NDArray[np.void], index: BenchmarkIndex, exempt: Collection[int]
) -> Hit | None:
    """The evidence in ``hits`` that are not exempt, or None where there is none."""
    if len(exempt) and len(hits):
        common = np.fromiter(sorted(exempt), dtype=np.uint64, count=len(exempt))
        hits = hits[~np.isin(hits["hash"], common)]
    if not len(hits):
        return None
    number, owner, matched = _most_matched(hits, index)
    items = index.tables[number].items
    first = next(
        hit
        for hit in hits
        if hit["index"] == number and owner in index.tables[number].owners_of(int(hit["row"]))
    )
    return Hit(
        ngrams=len(np.unique(hits["hash"])),
        benchmark=items.column("benchmark")[owner].as_py(),
        split=items.column("split")[owner].as_py(),
        item=items.column("id")[owner].as_py(),
        matched=matched,
        hash=int(first["hash"]),
        text=words.text(int(first["word"]), int(first["n"])),
    )


def _most_matched(hits: NDArray[np.void], index: BenchmarkIndex) -> tuple[int, int, int]:
    """Index number, item number and count of the item with the most different n-grams."""
    best = (0, 0, 0)
    for number, table in enumerate(index.tables):
        rows = np.unique(hits["row"][hits["index"] == number])
        if not len(rows):
            continue
        owners = np.concatenate([table.owners_of(int(row)) for row in rows])
        found, counts = np.unique(owners, return_counts=True)
        most = int(np.argmax(counts))
        if counts[most] > best[2]:
            best = number, int(found[most]), int(counts[most])
    return best


def hit_hashes(hits: NDArray[np.void]) -> Hashes:
    """The different n-grams in hits, sorted: what is counted over documents."""
    return np.unique(hits["hash"])
