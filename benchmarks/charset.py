"""How many files of known encoding are decoded as labelled, beside other detectors.

    python benchmarks/charset.py --data FOLDER      (or the environment variable CIDERMILL_DATA)

FOLDER holds ``encoding/INDEX.jsonl`` with the fields ``path`` (relative to FOLDER),
``expected_encoding`` and ``source``. A file counts as decoded as labelled where the text equals
the strict decoding by its label, by Python's codec or by the WHATWG encoding of that label (which
extends it: windows-1252 for ISO-8859-1, code page 932 for Shift_JIS). No HTTP header is given.
Also counted: the cases of html5lib's encoding tests, where the folder holds them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import chardet
import charset_normalizer

from filters.charset import decode
from filters.codecs_web import decode_bytes
from filters.meta_charset import declared_charset, encoding_for_label


def labelled_texts(payload: bytes, label: str) -> set[str]:
    """The texts that count as right for ``label``."""
    texts = set()
    web = encoding_for_label(label)
    if web is not None and web != "replacement":
        text, lost = decode_bytes(payload, web)
        if not lost:
            texts.add(text.removeprefix("\ufeff"))
    with contextlib.suppress(LookupError, UnicodeDecodeError):
        texts.add(payload.decode(label).removeprefix("\ufeff"))
    return texts


def by_name(payload: bytes, encoding: str | None) -> str | None:
    """Decode with what a detector named, read as the web reads that name."""
    if encoding is None:
        return None
    try:
        return decode_bytes(payload, encoding_for_label(encoding) or encoding.lower())[0]
    except LookupError:
        return None


def _normalizer(payload: bytes) -> str | None:
    best = charset_normalizer.from_bytes(payload).best()
    return by_name(payload, best.encoding if best else None)


METHODS: dict[str, Callable[[bytes], str | None]] = {
    "cidermill": lambda payload: decode(payload, None, html=True).text,
    "chardet": lambda payload: by_name(payload, chardet.detect(payload)["encoding"]),
    "charset_normalizer": _normalizer,
}


def measure(data: Path, *, show_misses: bool) -> None:
    """Print, for each method and source, the share of files decoded as labelled."""
    index = (data / "encoding" / "INDEX.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in index]
    files = [(row, (data / row["path"]).read_bytes()) for row in rows]
    megabytes = sum(len(payload) for _, payload in files) / 1e6
    for name, method in METHODS.items():
        right: Counter[str] = Counter()
        seen: Counter[str] = Counter()
        seconds = 0.0
        for row, payload in files:
            started = time.perf_counter()
            text = method(payload)
            seconds += time.perf_counter() - started
            seen[row["source"]] += 1
            if text is not None and text.removeprefix("\ufeff") in labelled_texts(
                payload, row["expected_encoding"]
            ):
                right[row["source"]] += 1
            elif show_misses and name == "cidermill":
                found = decode(payload, None, html=True)
                print(
                    f"  miss {row['path']}: {row['expected_encoding']} -> {found.charset}"
                    f" ({found.source})"
                )
        shares = ", ".join(f"{source} {right[source]}/{n}" for source, n in sorted(seen.items()))
        total = sum(right.values())
        print(
            f"{name:20} {total}/{len(rows)} = {total / len(rows):.3f}  "
            f"{megabytes / seconds:6.1f} MB/s  ({shares})"
        )
    for file in sorted(data.glob("encoding/html5lib*/encoding/*.dat")):
        print_html5lib(file)


def print_html5lib(file: Path) -> None:
    """Print the share of html5lib's cases with the encoding that a browser settles on."""
    cases = file.read_bytes().split(b"#data\n")[1:]
    right = 0
    for case in cases:
        payload, _, encoding = case.partition(b"\n#encoding\n")
        label = encoding.strip().decode("ascii")
        bom = decode(payload, None, html=True).source == "bom"
        # A page that declares nothing is windows-1252 there; here its bytes would decide.
        settled = "utf-8" if bom else declared_charset(payload) or "windows-1252"
        right += settled == encoding_for_label(label)
    print(f"html5lib {file.name}: {right}/{len(cases)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("CIDERMILL_DATA", ""))
    parser.add_argument("--misses", action="store_true", help="name every file that was missed")
    given = parser.parse_args()
    data = Path(given.data) if given.data else None
    if data is None or not (data / "encoding" / "INDEX.jsonl").is_file():
        print("skipped: no encoding/INDEX.jsonl; name its folder with --data or CIDERMILL_DATA")
        return 0
    measure(data, show_misses=given.misses)
    return 0


if __name__ == "__main__":
    sys.exit(main())
