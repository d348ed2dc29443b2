"""Planted benchmark items that are found, clean pages that are hit, and what it costs.

    python benchmarks/decontamination.py --data FOLDER
                                              (or the environment variable CIDERMILL_DATA)

FOLDER holds ``benchmarks/benchmarks.jsonl.gz`` (benchmark, split, id, text) and
``text/*.jsonl.gz`` (text, source). An index of all items is built. Then items drawn with a fixed
seed are planted in the middle of clean pages: verbatim, rewrapped (upper case, other punctuation,
lines of six words), and with a share of their words replaced. An item counts as found where the
page is hit by an n-gram of this very item. The clean pages themselves are looked up too: what hits
them is either chance, common usage, or text that a benchmark was made from.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from filters.decontamination.hits import best_hit, find_hits
from filters.decontamination.index import BenchmarkIndex, build_index, open_index
from filters.decontamination.items import Item
from filters.dedup.normalize import find_words

PLANTED = 600
PAGES = 1500
PAGE_WORDS = 800
DERIVED = ("WikiText", "speech", "sotu")
"""Sources that evaluation sets are made from: their pages are reported apart."""


def read_items(path: Path) -> Iterator[Item]:
    """All items of the set."""
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        for line in handle:
            row = json.loads(line)
            yield Item(row["benchmark"], row["id"], row["text"], row["split"])


def read_pages(folder: Path) -> list[tuple[str, str]]:
    """Source and first words of pages of at least 100 words, in a fixed random order."""
    pages = []
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as handle:
            for row in map(json.loads, handle):
                words = row["text"].split(" ")
                if len(words) >= 100:
                    pages.append((f"{path.name} {row.get('source')}", " ".join(words[:PAGE_WORDS])))
    random.Random(1).shuffle(pages)
    return pages[:PAGES]


def rewrapped(text: str, _rng: random.Random) -> str:
    """Upper case, every mark of punctuation a dash, and lines of six words."""
    plain = "".join(
        c if unicodedata.category(c)[0] in "LNMZ" or c.isspace() else " - " for c in text
    ).upper()
    words = plain.split()
    return "\n".join(" ".join(words[n : n + 6]) for n in range(0, len(words), 6))


def replaced(share: float) -> Callable[[str, random.Random], str]:
    """An edit that replaces this share of the words."""

    def edit(text: str, rng: random.Random) -> str:
        return " ".join("cidermill" if rng.random() < share else word for word in text.split())

    return edit


PLANTINGS: dict[str, Callable[[str, random.Random], str]] = {
    "verbatim": lambda text, _rng: text,
    "rewrapped": rewrapped,
    "2 % replaced": replaced(0.02),
    "5 % replaced": replaced(0.05),
    "10 % replaced": replaced(0.10),
}


def is_found(page: str, item: Item, index: BenchmarkIndex) -> bool:
    """Whether the page is hit by an n-gram of the item."""
    (table,) = index.tables
    names = table.items.column("benchmark"), table.items.column("split"), table.items.column("id")
    wanted = (item.benchmark, item.split, item.id)
    for row in np.unique(find_hits(page, index)["row"]):
        for owner in table.owners_of(int(row)).tolist():
            if tuple(column[owner].as_py() for column in names) == wanted:
                return True
    return False


def recall(items: list[Item], pages: list[tuple[str, str]], index: BenchmarkIndex) -> None:
    """Print the share of planted items that is found, by their length."""
    rng = random.Random(2)
    lengths = {item: len(find_words(item.text)) for item in items}
    groups = {
        "4-12 words": [item for item in items if 4 <= lengths[item] < 13],
        "13-25 words": [item for item in items if 13 <= lengths[item] <= 25],
        "26-100 words": [item for item in items if 26 <= lengths[item] <= 100],
        "101-300 words": [item for item in items if 100 < lengths[item] <= 300],
    }
    print(f"\nplanted items found, {PLANTED // len(groups)} of each length")
    print(f"  {'':16}" + "".join(f"{name:>15}" for name in groups))
    drawn = {name: rng.sample(group, PLANTED // len(groups)) for name, group in groups.items()}
    for name, plant in PLANTINGS.items():
        shares = []
        for chosen in drawn.values():
            found = 0
            for number, item in enumerate(chosen):
                words = pages[number % len(pages)][1].split(" ")
                half = len(words) // 2
                before, after = " ".join(words[:half]), " ".join(words[half:])
                page = f"{before}\n\n{plant(item.text, rng)}\n\n{after}"
                found += is_found(page, item, index)
            shares.append(found / len(chosen))
        print(f"  {name:16}" + "".join(f"{share:15.3f}" for share in shares))


def clean_pages(pages: list[tuple[str, str]], index: BenchmarkIndex) -> None:
    """Print the share of clean pages that are hit, by n, and what hits them."""
    derived = [p for p in pages if any(word in p[0] for word in DERIVED)]
    clean = [p for p in pages if p not in set(derived)]
    for name, group in (("clean pages", clean), ("pages that benchmarks are made from", derived)):
        by_n: Counter[int] = Counter()
        benchmarks: Counter[str] = Counter()
        hit_pages = 0
        for _, text in group:
            hits = find_hits(text, index)
            by_n.update(set(hits["n"].tolist()))
            hit = best_hit(text, index)
            if hit:
                hit_pages += 1
                benchmarks[hit.benchmark] += 1
        total = max(1, len(group))
        print(f"\n{name}: {hit_pages} of {len(group)} hit ({hit_pages / total:.3f})")
        print("  by n: " + ", ".join(f"{n}: {by_n[n] / total:.3f}" for n in range(4, 14)))
        print("  most often by: " + ", ".join(f"{b} {n}" for b, n in benchmarks.most_common(6)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("CIDERMILL_DATA", ""))
    parser.add_argument("--index", help="keep the index in this folder, or use the one there")
    given = parser.parse_args()
    data = Path(given.data)
    source = data / "benchmarks" / "benchmarks.jsonl.gz"
    if not given.data or not source.is_file():
        print("skipped: no benchmarks/ there; name its folder with --data or CIDERMILL_DATA")
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(given.index or Path(temporary) / "index")
        if not folder.exists():
            started = time.perf_counter()
            summary = build_index(read_items(source), str(folder))
            print(f"built in {time.perf_counter() - started:.1f} s: {summary}")
        started = time.perf_counter()
        index = open_index(str(folder))
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(f"opened and checked in {time.perf_counter() - started:.2f} s, {size / 1e6:.0f} MB")
        pages = read_pages(data / "text")
        # The first round brings the files into memory.
        for _ in range(2):
            started = time.perf_counter()
            for _, text in pages:
                index.hashes(text)
            each = (time.perf_counter() - started) / len(pages)
        words = sum(len(find_words(text)) for _, text in pages) / len(pages)
        print(f"looking up a page of {words:.0f} words: {each * 1e6:.0f} us")
        recall(list(read_items(source)), pages, index)
        clean_pages(pages, index)
    return 0


if __name__ == "__main__":
    sys.exit(main())
