"""Precision and recall of code recognition, on source files, questions, manuals and prose.

    python benchmarks/code_recognition.py --data FOLDER

FOLDER (or the environment variable CIDERMILL_DATA) holds ``code/`` (source and licence files with
their language), ``extraction/`` (pages about code, with main text) and ``text/`` (prose). Source
files and pages about code are positive; licences, novels, speeches, encyclopedia, textbook and
low-quality pages are negative. The bounds were tuned on every third source file and every other
text (``--half tune``); the numbers to quote are those of the others (``--half report``).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from filters import code_recognition
from filters.document import Value

Row = dict[str, str]

PROSE = (
    "negative_boilerplate_lines_from_gold",
    "negative_lowquality_pages_fulltext",
    "novels_en",
    "openstax_economics",
    "state_of_the_union",
    "wikitext2_valid_test",
)

# The languages of the labels that the guess does not tell apart from their relatives.
_ALIASES = {"objective-c": "c", "cython": "python"}


def read_rows(path: Path) -> list[Row]:
    """The objects of a ``.jsonl.gz`` file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def half_of(rows: list[Row], half: str, step: int) -> list[Row]:
    """Every ``step``-th row (tuned on), the others (to report), or all."""
    if half == "all":
        return rows
    return [row for i, row in enumerate(rows) if (i % step == 0) == (half == "tune")]


def is_source(row: Row) -> bool:
    """Whether a file holds a program, by its label and its name."""
    prose = (".md", ".rst", ".txt")
    return row["language"] != "licence-file" and not row["path"].lower().endswith(prose)


def share(signals: Iterable[dict[str, Value]]) -> tuple[int, int]:
    """How many are recognized as code, and of how many."""
    verdicts = [bool(row["code.is_code"]) for row in signals]
    return sum(verdicts), len(verdicts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("CIDERMILL_DATA"))
    parser.add_argument("--half", choices=("tune", "report", "all"), default="report")
    arguments = parser.parse_args()
    if arguments.data is None or not (arguments.data / "code").is_dir():
        print("skipped: no labelled files; give their folder by --data or CIDERMILL_DATA")
        return 0
    data, half = arguments.data, arguments.half

    started = time.perf_counter()
    files = half_of(read_rows(data / "code/files.jsonl.gz"), half, 3)
    by_language: dict[str, list[dict[str, Value]]] = {}
    licences = []
    named: Counter[bool] = Counter()
    for row in files:
        signals = code_recognition.measure(row["content"], "")
        if not is_source(row):
            licences.append(signals)
            continue
        by_language.setdefault(row["language"], []).append(signals)
        label = row["language"].lower()
        named[signals["code.language"] == _ALIASES.get(label, label)] += 1
    pages = [
        row
        for row in read_rows(data / "extraction/math_code_tables.jsonl.gz")
        if row.get("category") == "code"
    ]
    about_code = [code_recognition.measure(row["gold_text"], row["html"]) for row in pages]
    prose = {
        name: [
            code_recognition.measure(row["text"], "")
            for row in half_of(read_rows(data / f"text/{name}.jsonl.gz"), half, 2)
        ]
        for name in PROSE
    }
    prose["licences"] = licences
    elapsed = time.perf_counter() - started

    print(f"half: {half}")
    print("positive: recognized, of, recall")
    true = positive = false = 0
    for name, rows in [*sorted(by_language.items()), ("pages about code", about_code)]:
        hits, count = share(rows)
        true, positive = true + hits, positive + count
        print(f"  {name:40}{hits:6}{count:6}{hits / count:8.3f}")
    print("negative: recognized, of")
    for name, rows in prose.items():
        hits, count = share(rows)
        false += hits
        print(f"  {name:40}{hits:6}{count:6}")
    precision = true / (true + false) if true + false else 0.0
    print(f"precision {precision:.3f}, recall {true / positive:.3f}, ", end="")
    print(
        f"language named rightly {named[True] / max(named.total(), 1):.3f}, {elapsed:.1f} s in all"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
