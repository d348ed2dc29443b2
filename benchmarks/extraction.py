"""Main text extraction beside plain trafilatura, on pages with labelled main text.

    python benchmarks/extraction.py --data DIR [--pages 150]

F1 of 4-word shingles, mean over pages, and CPU pages a second; passes are made in turn.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.chain import trafilatura_as_published
from filters.extraction import ExtractionOptions, extract

ROUNDS = 2


def shingles(text: str) -> Counter[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return Counter(tuple(words[n : n + 4]) for n in range(len(words) - 3))


def f1(found: str, gold: str) -> float:
    ours, true = shingles(found), shingles(gold)
    if not ours and not true:
        return 1.0
    common = sum((ours & true).values())
    if not common:
        return 0.0
    precision, recall = common / sum(ours.values()), common / sum(true.values())
    return 2 * precision * recall / (precision + recall)


def published(html: str) -> str:
    from trafilatura import extract as plain

    with trafilatura_as_published():
        return plain(html, include_comments=False) or ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("CIDERMILL_DATA"))
    parser.add_argument("--pages", type=int, default=150)
    arguments = parser.parse_args()
    folder = Path(arguments.data or "", "extraction")
    if not arguments.data or not folder.is_dir():
        print("skipped: name the folder of labelled data with --data or CIDERMILL_DATA")
        return
    ways: dict[str, Callable[[str], str]] = {"trafilatura": published}
    for mode in ("balanced", "precision", "fast"):
        options = ExtractionOptions(mode=mode)
        ways[f"ours, {mode}"] = lambda html, options=options: extract(html, "", options).text
    for name in ("wcxb", "articles", "forums"):
        with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as handle:
            rows = [row for row in map(json.loads, handle) if row.get("gold_text")]
        rows = rows[: arguments.pages]
        scores = dict.fromkeys(ways, 0.0)
        seconds = dict.fromkeys(ways, 0.0)
        for _ in range(ROUNDS):
            for way, work in ways.items():
                began = time.process_time()
                texts = [work(row["html"]) for row in rows]
                seconds[way] += time.process_time() - began
                pairs = zip(texts, rows, strict=True)
                scores[way] = sum(f1(t, r["gold_text"]) for t, r in pairs) / len(rows)
        print(f"\n{name}, {len(rows)} pages")
        for way in ways:
            rate = ROUNDS * len(rows) / seconds[way]
            ratio = seconds["trafilatura"] / seconds[way]
            print(f"  {way:<18} F1 {scores[way]:.3f}  {rate:6.1f} pages/s  {ratio:.2f}x")


if __name__ == "__main__":
    main()
