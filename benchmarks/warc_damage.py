"""What the archive reader makes of real archives, many of them damaged, and how fast it is.

    python benchmarks/warc_damage.py --data FOLDER     (or the environment variable CIDERMILL_DATA)

FOLDER holds ``warc/INDEX.json``, with ``path`` and the record counts of two other parsers
(``warcio``, ``fastwarc``) for each archive, and ``crawl/*.warc.gz`` for the speed. Printed are the
items read per file kind, dead letters by error class, and each file whose count differs from both.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, BinaryIO

from filters.document import DeadLetter, Document
from pipelines.sources.records import read_records


def read(stream: BinaryIO, name: str) -> list[Document | DeadLetter]:
    """All items of one archive."""
    return list(read_records("warc", stream, name=name, source="bench", identify=str))


def damage(data: Path, *, show_differences: bool) -> None:
    """Print the table of items per file kind and the differences to the other parsers."""
    rows: list[dict[str, Any]] = json.loads((data / "warc" / "INDEX.json").read_text("utf-8"))
    table: dict[str, Counter[str]] = defaultdict(Counter)
    agreeing: Counter[str] = Counter()
    for row in rows:
        path = data / row["path"]
        with path.open("rb") as stream:
            items = read(stream, path.name)
        letters = [item for item in items if isinstance(item, DeadLetter)]
        counts = table["".join(path.suffixes[-2:])[-8:]]
        counts.update(files=1, documents=len(items) - len(letters), dead=len(letters))
        counts.update(letter.error for letter in letters)
        warcio = sum((row.get("warcio", {}).get("records") or {}).values())
        fastwarc = row.get("fastwarc", {}).get("records") or 0
        documents = len(items) - len(letters)
        accounted = len(items) >= max(warcio, fastwarc)
        agreeing["at least as many documents"] += documents >= max(warcio, fastwarc)
        agreeing["at least as many, dead letters counted"] += accounted
        if show_differences and not documents == warcio == fastwarc:
            errors = ", ".join(sorted({letter.error for letter in letters}))
            print(
                f"  {row['path']}: {documents} documents, {len(letters)} dead ({errors});"
                f" warcio {warcio}, fastwarc {fastwarc}"
            )
    for kind, counts in sorted(table.items()):
        errors = {k: n for k, n in counts.items() if k not in {"files", "documents", "dead"}}
        print(
            f"{kind:9} files {counts['files']:4} documents {counts['documents']:6}"
            f" dead {counts['dead']:4}  {errors or ''}"
        )
    for what, count in agreeing.items():
        print(f"{what} than either other parser: {count}/{len(rows)} files")


def speed(data: Path) -> None:
    """Print the reading speed in megabytes of uncompressed archive a second."""
    for path in sorted((data / "crawl").glob("*.warc.gz")):
        packed = path.read_bytes()
        plain = gzip.decompress(packed)
        for what, content in (("gzip", packed), ("plain", plain)):
            started = time.perf_counter()
            items = read(io.BytesIO(content), path.name)
            seconds = time.perf_counter() - started
            print(
                f"{path.name:18} {what:5} {len(items):6} records"
                f" {len(plain) / 1e6 / seconds:6.0f} MB/s"
                f" {seconds / max(1, len(items)) * 1e6:6.0f} us a record"
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("CIDERMILL_DATA", ""))
    parser.add_argument("--differences", action="store_true", help="name files counted differently")
    given = parser.parse_args()
    data = Path(given.data) if given.data else None
    if data is None or not (data / "warc" / "INDEX.json").is_file():
        print("skipped: no warc/INDEX.json; name its folder with --data or CIDERMILL_DATA")
        return 0
    damage(data, show_differences=given.differences)
    speed(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
