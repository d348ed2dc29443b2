"""How well the shipped classifiers tell what they were made to tell, on labelled rows.

    python benchmarks/classifiers.py --data DIR

Prints AUROC on held-out and foreign sets, and the share of clean pages that the web recipe's bounds
would drop. Rows that training used are left out by the same hash.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.train_classifiers import COMMENTS, hashed_out, held_out
from filters import quality, safety
from pipelines.recipe import load


def rows(path: Path) -> Iterator[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        yield from map(json.loads, handle)


def auroc(positive: list[float], negative: list[float]) -> float:
    """The chance that a positive scores above a negative, ties half: Mann-Whitney's U."""
    ranked = sorted([(s, 1) for s in positive] + [(s, 0) for s in negative])
    total = place = 0.0
    start = 0
    while start < len(ranked):
        end = start
        while end < len(ranked) and ranked[end][0] == ranked[start][0]:
            end += 1
        place = (start + end + 1) / 2
        total += place * sum(label for _, label in ranked[start:end])
        start = end
    count = len(positive)
    return (total - count * (count + 1) / 2) / (count * len(negative))


def safety_sets(data: Path) -> Iterator[tuple[str, list[float], list[float]]]:
    """Test comments of the sets trained on; OLID's test part (settings were chosen on the rest)
    and all of ConvAbuse, neither trained on."""
    for name in (*COMMENTS, "olid_offenseval2019", "convabuse"):
        scores: dict[str, list[float]] = {"1": [], "0": []}
        for row in rows(data / "safety" / f"{name}.jsonl.gz"):
            if name != "convabuse" and not held_out(name, row):
                continue
            score = safety.toxicity(row["text"])
            if score is not None and str(row["label"]) in scores:
                scores[str(row["label"])].append(score)
        yield name, scores["1"], scores["0"]


def clean_pages(data: Path) -> Iterator[tuple[str, str]]:
    """English text that nobody should drop; held-out rows of what training saw."""
    for name in ("wikitext2_valid_test", "openstax_economics"):
        for row in rows(data / "text" / f"{name}.jsonl.gz"):
            yield name, row["text"]
    for row in rows(data / "text" / "peps.jsonl.gz"):
        if hashed_out(row["id"]):
            yield "peps", row["text"]
    for row in rows(data / "extraction" / "articles.jsonl.gz"):
        if row.get("gold_text"):
            yield "articles", row["gold_text"]


def poor_pages(data: Path) -> Iterator[tuple[str, str]]:
    for row in rows(data / "text" / "negative_lowquality_pages_fulltext.jsonl.gz"):
        if row.get("lang") == "en":
            yield "low quality pages", row["text"]
    for row in rows(data / "text" / "negative_boilerplate_lines_from_gold.jsonl.gz"):
        if row.get("lang") == "en":
            yield "boilerplate", row["text"]


def shares(pages: Iterable[tuple[str, str]]) -> None:
    """Share of pages beyond each bound, by set."""
    bounds = {r.signal: r.bound for stage in load("web").stages for r in stage.rules}
    counts: dict[str, dict[str, int]] = {}
    for name, text in pages:
        signals = {**safety.measure(text, "en"), **quality.measure(text, "en")}
        row = counts.setdefault(name, {"pages": 0})
        row["pages"] += 1
        for signal in ("safety.lexicon_weight", "safety.toxicity", "quality.score"):
            row[signal] = row.get(signal, 0) + (not bounds[signal].admits(signals[signal]))
    print(f"{'set':<22}{'pages':>7}{'lexicon':>9}{'toxicity':>9}{'quality':>9}")
    for name, row in counts.items():
        parts = [row[s] / row["pages"] for s in list(row)[1:]]
        print(f"{name:<22}{row['pages']:>7}" + "".join(f"{part:>9.1%}" for part in parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("CIDERMILL_DATA"))
    arguments = parser.parse_args()
    if not arguments.data or not Path(arguments.data, "safety").is_dir():
        print("skipped: name the folder of labelled data with --data or CIDERMILL_DATA")
        return
    data = Path(arguments.data)
    print("toxicity, AUROC")
    for name, toxic, fine in safety_sets(data):
        print(f"{name:<30}{len(toxic):>7} toxic {len(fine):>7} fine {auroc(toxic, fine):>7.3f}")
    print("\nquality, AUROC of clean against poor pages")
    scores: dict[str, list[float]] = {"clean": [], "poor": []}
    for kind, pages in (("clean", clean_pages(data)), ("poor", poor_pages(data))):
        for _, text in pages:
            score = quality.measure(text, "en")["quality.score"]
            if isinstance(score, float):
                scores[kind].append(score)
    print(f"{len(scores['clean'])} clean {len(scores['poor'])} poor "
          f"{auroc(scores['clean'], scores['poor']):.3f}")  # fmt: skip
    print("\nshare of pages beyond the bounds of the web recipe")
    shares([*clean_pages(data), *poor_pages(data)])


if __name__ == "__main__":
    main()
