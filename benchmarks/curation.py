"""What a curated corpus is worth: models trained on it and on the same pages as they are.

    python benchmarks/curation.py --data FOLDER --to WORK [--preset 5m --tokens 1M --seeds 3]
                                                   (or the environment variable CIDERMILL_DATA)

FOLDER holds ``crawl/*.warc.gz`` and ``text/*.jsonl.gz`` with the field ``text``. Three steps, each
of which goes on where it was stopped:

1. **curated**: ``cidermill curate`` with the recipe ``web`` over both, a tokenizer, and shards,
   with some documents of each source set aside.
2. **uncurated**: all visible text of the same pages (what WET archives hold), and all the texts;
   no rule, no removal of duplicates. The same tokenizer; pages set aside above are left out by
   address, and copies of what was set aside by the duplicate rules.
3. Models of the same preset, budget and seeds on each; bits per byte on what was set aside, which
   is clean text. Printed by source, with the standard deviation over seeds.

The budget is the same number of tokens, so the curated model sees its smaller corpus more often.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev

# The tokenizer's benchmark has the name of the package, and this folder would come first.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import pipelines.quiet  # noqa: E402, F401 - before Beam is imported
from filters.document import Document  # noqa: E402

ARMS = ("curated", "uncurated")
PIECES, LENGTH, HELD_OUT = "8192", "512", "0.05"
PLAIN = """
name: uncurated
description: everything that can be read
stages: [read, extract]
sources:
  crawl: {{input: {pages}}}
  text: {{input: {texts}}}
"""
CURATED = """
sources:
  crawl: {{input: {pages}}}
  text: {{input: {texts}}}
"""


def run(*words: str) -> None:
    """One command of the project; its failure is this program's."""
    from pipelines.cli import main

    print("$ cidermill", *words, flush=True)
    code = main(list(words))
    if code:
        sys.exit(code)


def pages(folder: Path) -> Iterator[Document]:
    """Every page of the crawl, as it was fetched."""
    from pipelines.sources.records import read_records

    for path in sorted(folder.glob("crawl/*.warc.gz")):
        with open(path, "rb") as handle:
            for record in read_records(
                "warc", handle, name=path.name, source="crawl",
                identify=lambda n: f"{n:032x}", options={},
            ):  # fmt: skip
                if isinstance(record, Document):
                    yield record


def visible_text(page: Document) -> str:
    """What a reader sees of a page: HTML without markup, plain text as it is."""
    from trafilatura import html2txt

    return str(html2txt(page.html)) if page.html else page.text


def visible_texts(folder: Path) -> Iterator[dict[str, str]]:
    """Every page's visible text and address."""
    for page in pages(folder):
        text = visible_text(page)
        if text:
            yield {"url": page.url, "text": text}


def set_aside(shards: Path) -> set[str]:
    """The addresses of what was set aside."""
    import pyarrow.parquet as pq

    table = pq.read_table(shards / "held-out.parquet", columns=["url"])
    return {url for url in table["url"].to_pylist() if url}


def curated(data: Path, out: Path) -> None:
    """Step 1."""
    from pipelines.shipped import read_shipped_or_own

    out.mkdir(parents=True, exist_ok=True)
    recipe = out / "recipe.yaml"
    recipe.write_text(
        read_shipped_or_own("web", ".", "recipe")
        + CURATED.format(pages=data / "crawl" / "*.warc.gz", texts=data / "text" / "*.jsonl.gz")
    )
    run("curate", "--recipe", str(recipe), "--output", str(out))
    run("tokenizer", "train", str(out), "--vocab-size", PIECES)
    run("pack", str(out), "--sequence-length", LENGTH, "--held-out", HELD_OUT)


def uncurated(data: Path, out: Path, beside: Path) -> None:
    """Step 2."""
    out.mkdir(parents=True, exist_ok=True)
    kept = set_aside(beside / "shards" / LENGTH)
    # Beside the output: files in it are no inputs.
    pages = out.parent / "pages.jsonl"
    with open(pages, "w", encoding="utf-8") as handle:
        for row in visible_texts(data):
            if row["url"] not in kept:
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")
    recipe = out / "recipe.yaml"
    recipe.write_text(PLAIN.format(pages=pages, texts=data / "text" / "*.jsonl.gz"))
    run("curate", "--recipe", str(recipe), "--output", str(out))
    run(
        "pack", str(out), "--sequence-length", LENGTH,
        "--tokenizer", str(beside / "tokenizer" / "tokenizer.model"),
        "--held-out", str(beside / "shards" / LENGTH),
    )  # fmt: skip


def trained(arm: Path, beside: Path, preset: str, tokens: str, seed: int) -> dict[str, float]:
    """Step 3: bits per byte by source of one model."""
    name = f"{preset}-{tokens}-{seed}"
    report = arm / "models" / name / "train.json"
    if not report.exists() or json.loads(report.read_text())["final"] is None:
        run(
            "train", str(arm), "--preset", preset, "--tokens", tokens, "--seed", str(seed),
            "--name", name, "--tokenizer", str(beside / "tokenizer" / "tokenizer.model"),
            "--validation", str(beside / "shards" / LENGTH),
        )  # fmt: skip
    final = json.loads(report.read_text())["final"]
    return {
        "all": final["bits_per_byte"],
        **{source: found["bits_per_byte"] for source, found in final["sources"].items()},
    }


def table(found: dict[str, list[dict[str, float]]]) -> list[str]:
    """Means, deviations, and the difference of each pair of equal seeds."""
    rows = [f"{'bits/byte':<10}{'curated':>18}{'uncurated':>18}{'difference':>20}"]

    def show(values: list[float]) -> str:
        spread = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
        return f"{mean(values):.4f}{spread}"

    for source in found["curated"][0]:
        a, b = ([one[source] for one in found[arm]] for arm in ARMS)
        gaps = [x - y for x, y in zip(a, b, strict=True)]
        rows.append(f"{source:<10}{show(a):>18}{show(b):>18}{show(gaps):>20}")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("CIDERMILL_DATA"))
    parser.add_argument("--to", required=True, help="folder for corpora and models")
    parser.add_argument("--preset", default="5m")
    parser.add_argument("--tokens", default="1M")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--prepare", action="store_true", help="make the corpora, train nothing")
    arguments = parser.parse_args()
    data = Path(arguments.data or "")
    if not arguments.data or not glob.glob(str(data / "crawl" / "*.warc.gz")):
        print("skipped: --data names no folder with crawl/*.warc.gz and text/*.jsonl.gz")
        return 0
    arms = {arm: Path(arguments.to) / arm for arm in ARMS}
    if not (arms["curated"] / "shards" / LENGTH / "index.json").exists():
        curated(data, arms["curated"])
    if not (arms["uncurated"] / "shards" / LENGTH / "index.json").exists():
        uncurated(data, arms["uncurated"], arms["curated"])
    if arguments.prepare:
        return 0
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for seed in range(arguments.seeds):
        for arm, folder in arms.items():
            found[arm].append(
                trained(folder, arms["curated"], arguments.preset, arguments.tokens, seed)
            )
    print("\n".join(table(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
