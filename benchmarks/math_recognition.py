"""Precision and recall of each math filter and of all together, on labelled pages.

    python benchmarks/math_recognition.py --data FOLDER

FOLDER (or the environment variable CIDERMILL_DATA) holds ``math/`` (pages with formulas) and
``crawl/`` (pages of which the index tells ``n_math``, the formulas in the markup). Pages with
formulas are positive, crawled pages without are negative. The domain rule cannot show its worth
there, for no page comes from a listed domain. The bounds were tuned on every other
page (``--half tune``); the numbers to quote are those of the other half (``--half report``).
"""

from __future__ import annotations

import argparse
import gzip
import html
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from filters import math_recognition
from filters.document import Value

Signals = dict[str, Value]

RULES: dict[str, Callable[[Signals], bool]] = {
    "tag": lambda s: _number(s, "tags") > 0,
    "symbols": lambda s: (
        _number(s, "distinct_symbols") >= math_recognition.MIN_DISTINCT
        and _number(s, "symbol_density") >= math_recognition.MIN_DENSITY
    ),
    "tag and symbol": lambda s: (
        _number(s, "tags") > 0 and _number(s, "symbols") >= math_recognition.MIN_SYMBOLS_WITH_TAG
    ),
    "domain": lambda s: s["math.domain"] == "accept",
    "is_math": lambda s: bool(s["math.is_math"]),
}


def _number(signals: Signals, name: str) -> float:
    value = signals[f"math.{name}"]
    assert isinstance(value, int | float)
    return value


def read_rows(path: Path) -> list[dict[str, object]]:
    """The objects of a ``.jsonl.gz`` file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def read_pages(warc: Path, rows: list[dict[str, object]]) -> Iterator[tuple[str, str]]:
    """URL and decoded markup of the WARC records at the rows' offsets."""
    with warc.open("rb") as file:
        for row in rows:
            file.seek(int(str(row["offset"])))
            record = gzip.decompress(file.read(int(str(row["length"]))))
            _, _, body = record.partition(b"\r\n\r\n")
            if body.startswith(b"HTTP/"):
                _, _, body = body.partition(b"\r\n\r\n")
            encoding = str(row.get("encoding") or "utf-8")
            yield str(row["url"]), body.decode(encoding, "replace")


def strip_tags(markup: str) -> str:
    """The visible text, boilerplate included; formulas in scripts and attributes are lost."""
    markup = re.sub(r"(?is)<(script|style)\b.*?</\1\s*>|<!--.*?-->", " ", markup)
    markup = re.sub(r"(?i)<(?:/?(?:p|div|h\d|li|tr|table|pre)\b[^>]*|br[^>]*)>", "\n", markup)
    text = html.unescape(re.sub(r"<[^>]*>", "", markup))
    return re.sub(r"\n\s*\n", "\n", re.sub(r"[ \t]+", " ", text))


def labelled_pages(data: Path) -> dict[str, list[tuple[str, str]]]:
    """URL and markup of two sets of positive pages and of the negative pages."""
    pages = read_rows(data / "math/math_pages.index.jsonl.gz")
    crawl = [row for row in read_rows(data / "crawl/index.jsonl.gz") if row["n_math"] == 0]
    pairs = read_rows(data / "math/planetmath_html_tex_pairs.jsonl.gz")
    return {
        "pages": list(read_pages(data / "math/math_pages.warc.gz", pages)),
        "planetmath": [("", str(row["html"])) for row in pairs],
        "negatives": [
            page
            for warc in sorted({str(row["warc"]) for row in crawl})
            for page in read_pages(
                data / "crawl" / warc, [row for row in crawl if row["warc"] == warc]
            )
        ],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("CIDERMILL_DATA"))
    parser.add_argument("--half", choices=("tune", "report", "all"), default="report")
    arguments = parser.parse_args()
    if arguments.data is None or not (arguments.data / "math").is_dir():
        print("skipped: no labelled pages; give their folder by --data or CIDERMILL_DATA")
        return 0
    half = {"tune": slice(0, None, 2), "report": slice(1, None, 2), "all": slice(None)}
    measured: dict[str, list[Signals]] = {}
    seconds, count = 0.0, 0
    for name, pages in labelled_pages(arguments.data).items():
        measured[name] = []
        for url, markup in pages[half[arguments.half]]:
            text = strip_tags(markup)
            start = time.perf_counter()
            measured[name].append(
                math_recognition.measure(text, markup, urlsplit(url).hostname or "")
            )
            seconds += time.perf_counter() - start
            count += 1
    negatives = measured.pop("negatives")
    sizes = ", ".join(f"{len(rows)} {name}" for name, rows in measured.items())
    print(f"half: {arguments.half}; positive: {sizes}; negative: {len(negatives)}")
    print(f"{'rule':16}{'precision':>10}{'recall':>8}  recall by set; false positives")
    for rule, holds in RULES.items():
        hits = {name: sum(map(holds, rows)) for name, rows in measured.items()}
        true, false = sum(hits.values()), sum(map(holds, negatives))
        precision = f"{true / (true + false):.3f}" if true + false else "no hit"
        recall = true / sum(map(len, measured.values()))
        by_set = ", ".join(f"{name} {hits[name] / len(measured[name]):.3f}" for name in hits)
        print(f"{rule:16}{precision:>10}{recall:8.3f}  {by_set}; {false}")
    print(f"{1000 * seconds / max(count, 1):.2f} ms a page")
    return 0


if __name__ == "__main__":
    sys.exit(main())
