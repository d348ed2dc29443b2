"""The tables of an index: which n-grams benchmark items have, and whose they are.

What an n-gram is: n words as ``filters.dedup.normalize`` finds them, for items and documents alike
(digits are kept as they are). Its hash has 64 bits; a page of 1,000 words looked up for all ten n
in an index of ten million hashes meets a wrong one with probability 5e-9.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.decontamination.items import LONGEST, SHORTEST, Item, ngram_size
from filters.dedup.normalize import (
    DIGIT,
    LETTER,
    UNIT,
    Hashes,
    Words,
    character_kinds,
    find_words,
    mix,
)
from filters.dedup.shingles import place_multipliers, shingle_hashes

ITEMS = pa.schema(
    [
        ("benchmark", pa.string()),
        ("split", pa.string()),
        ("id", pa.string()),
        ("words", pa.int32()),
        ("n", pa.int8()),
    ]
)

FILTER_SHARE = 32
"""Bits of the filter for each hash, at least. It is a Bloom filter with two bits a hash: at most
1 in 256 lookups that miss goes on to the search."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The content of one index.

    ``hashes`` are the different n-gram hashes, rising, and ``sizes`` is n of each. The items that
    contain hash ``i`` are ``owners[starts[i] : starts[i + 1]]``: item numbers, rising. ``filter``
    is a Bloom filter of the hashes. ``items`` has a row for each item, in sorted order; n is 0
    where the item is not looked for.
    """

    hashes: Hashes
    sizes: NDArray[np.uint8]
    starts: NDArray[np.int64]
    owners: NDArray[np.uint32]
    filter: NDArray[np.uint8]
    items: pa.Table

    def find(self, hashes: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which of ``hashes`` are in the index: their places, and their rows in the index."""
        first, second = _probes(hashes, filter_bits(self.filter))
        places = np.flatnonzero(self._held(first))
        places = places[self._held(second[places])]
        rows = np.searchsorted(self.hashes, hashes[places])
        found = rows < len(self.hashes)
        found[found] = self.hashes[rows[found]] == hashes[places[found]]
        return places[found], rows[found]

    def _held(self, bits: Hashes) -> NDArray[np.bool_]:
        # The high bits of a number are 0, so that it is the same as a signed one.
        held = self.filter.take((bits >> np.uint64(3)).view(np.int64))
        held >>= (bits & np.uint64(7)).astype(np.uint8)
        return (held & np.uint8(1)).astype(bool)

    def owners_of(self, row: int) -> NDArray[np.uint32]:
        """The numbers of the items that contain the n-gram of a row."""
        return self.owners[int(self.starts[row]) : int(self.starts[row + 1])]


def filter_bits(bitmap: NDArray[np.uint8]) -> int:
    """How many bits of a hash say where in a filter its two bits are."""
    return len(bitmap).bit_length() + 2


def _probes(hashes: Hashes, bits: int) -> tuple[Hashes, Hashes]:
    """Where the two bits of each hash are: by its high bits and by its low bits."""
    return hashes >> np.uint64(64 - bits), hashes & np.uint64((1 << bits) - 1)


def ngram_hashes(words: Hashes, n: int) -> Hashes:
    """The hashes of the n-grams of a text, in order."""
    return mix(shingle_hashes(words, n) + np.uint64(n))


def all_ngrams(words: Hashes, sizes: tuple[int, ...]) -> tuple[Hashes, NDArray[np.int64]]:
    """``ngram_hashes`` for several rising sizes at once, and the first word of each n-gram.

    The sum over n words is that over n - 1 with one word more: as many passes as the largest n.
    """
    places = place_multipliers()
    sums: list[Hashes] = []
    total = words * places[0]
    for n in range(1, min(sizes[-1] if sizes else 0, len(words)) + 1):
        if n > 1:
            total = total[:-1] + words[n - 1 :] * places[n - 1]
        if n in sizes:
            sums.append(total + np.uint64(n))
    if not sums:
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
    return mix(np.concatenate(sums)), np.concatenate([np.arange(len(part)) for part in sums])


def compile_items(
    items: Iterable[Item], shortest: int = SHORTEST, longest: int = LONGEST
) -> Tables:
    """The tables of an index of ``items``: sorted, the same item twice counted once.

    N-grams of nothing but single letters and numbers of one or two digits are left out: they are
    enumerations (``1 2 3``, ``a b c``), which any page with a table or an alphabetical index has.
    An item without any other has ``n`` 0. Takes about 100 microseconds an item and holds all of
    them in memory. Raises ValueError where the range of n makes no sense.
    """
    if not 1 <= shortest <= longest <= 64:
        raise ValueError(f"n-grams of {shortest} to {longest} words: give a range within 1 to 64")
    # ``sorted(set())`` depends on no order: items are compared by all of their fields.
    ordered = sorted(set(items), key=lambda item: (item.benchmark, item.split, item.id, item.text))
    rows = []
    parts: list[Hashes] = []
    for item in ordered:
        words = find_words(item.text)
        n = ngram_size(len(words), shortest, longest) or 0
        part = _item_ngrams(words, n) if n else np.empty(0, np.uint64)
        n = n if len(part) else 0
        parts.append(part)
        rows.append((item.benchmark, item.split, item.id, len(words), n))
    counts = np.array([len(part) for part in parts], dtype=np.int64)
    every = np.concatenate([np.empty(0, np.uint64), *parts])
    owners = np.repeat(np.arange(len(parts), dtype=np.uint32), counts)
    sizes = np.repeat(np.array([row[4] for row in rows], dtype=np.uint8), counts)
    order = np.argsort(every, kind="stable")
    hashes, first = np.unique(every[order], return_index=True)
    columns = zip(*rows, strict=True) if rows else ((),) * len(ITEMS)
    return Tables(
        hashes=hashes,
        sizes=sizes[order][first],
        starts=np.append(first, len(every)).astype(np.int64),
        owners=owners[order],
        filter=_filter(hashes),
        items=pa.table(
            [pa.array(column, field.type) for column, field in zip(columns, ITEMS, strict=True)],
            schema=ITEMS,
        ),
    )


def _item_ngrams(words: Words, n: int) -> Hashes:
    """The sorted different n-grams of an item but for enumerations."""
    telling = np.concatenate(([0], np.cumsum(telling_words(words))))
    return np.unique(ngram_hashes(words.hashes, n)[telling[n:] > telling[:-n]])


def telling_words(words: Words) -> NDArray[np.bool_]:
    """Which words are more than a label in a list.

    They have two letters, or three digits, or one letter and two digits, or one letter of a
    script without spaces.
    """
    kinds = character_kinds()[words.codes]
    weights = np.select([kinds == UNIT, kinds == LETTER, kinds == DIGIT], [6, 3, 2], 0)
    sixths: NDArray[np.int64] = np.add.reduceat(weights, words.starts)
    return sixths >= 6


def _filter(hashes: Hashes) -> NDArray[np.uint8]:
    bits = max(10, (FILTER_SHARE * len(hashes) - 1).bit_length())
    bitmap = np.zeros(1 << bits, dtype=bool)
    for probe in _probes(hashes, bits):
        bitmap[probe] = True
    return np.packbits(bitmap, bitorder="little")


def item_rows(items: pa.Table) -> Iterator[tuple[str, str, str, int, int]]:
    """The rows of an item table, block by block."""
    for batch in items.to_batches(max_chunksize=65536):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
