"""Parts: a large file as several units of work that workers share out.

A file of at least twice ``caps.part_bytes`` is read through once, without looking into its
records, to find where records begin that a reader can start at. The same file always gives the
same parts, so that they leave no trace in what a run writes but the names of its files. That pass
also gives the digest of the file, which no reader of a part could.

What can be shared: WARC and WET with one compressed member a record (gzip, zstd without a
dictionary, LZ4) or without compression, JSONL without compression, Parquet with several row
groups. What cannot, and is read by one worker: a file that is one compressed stream, ARC, zstd
with a dictionary, and what is read under ``--limit``.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace

from pipelines import files
from pipelines.inputs import MAX_PARTS, Input, part_key
from pipelines.read_caps import read_caps
from pipelines.recipe import digest
from pipelines.run import Run, code_hash
from pipelines.sources.starts import Start, record_starts

SPLITTABLE = frozenset({"warc", "wet", "jsonl", "parquet"})


def is_large(item: Input, run: Run) -> bool:
    """Whether an input is worth the pass that looks for parts."""
    return (
        item.kind in SPLITTABLE
        and item.limit < 0
        and item.end < 0
        and item.size >= 2 * run.recipe.caps.part_bytes
    )


def split_input(item: Input, run: Run) -> list[Input]:
    """The parts of an input, or the input itself where it is small or cannot be shared.

    They are stored, and found again as long as the file is not changed.
    """
    if not is_large(item, run):
        return [item]
    path = _parts_file(item, run)
    stored = files.find_json(path)
    if stored and stored["updated"] == item.updated and stored["size"] == item.size:
        return [_from_row(item, row, stored["sha256"]) for row in stored["parts"]]
    rows, sha256 = _scan(item, run)
    files.write_json(
        path, {"parts": rows, "sha256": sha256, "size": item.size, "updated": item.updated}
    )
    return [_from_row(item, row, sha256) for row in rows]


def stored_parts(item: Input, run: Run) -> list[Input]:
    """The parts of an input that an earlier step has split; needs no pass over the file.

    Raises:
      FileNotFoundError: it was not split yet.
    """
    if not is_large(item, run):
        return [item]
    stored = files.read_json(_parts_file(item, run))
    return [_from_row(item, row, stored["sha256"]) for row in stored["parts"]]


def _parts_file(item: Input, run: Run) -> str:
    """Where the parts of a file are kept; another name for whatever could change them."""
    caps = run.recipe.caps
    state = digest(
        {
            "code": code_hash("pipelines"),
            "kind": item.kind,
            "part_bytes": caps.part_bytes,
            "record_bytes": caps.record_bytes,
        }
    )[:16]
    return files.join(run.work, "parts", f"{item.key}-{state}.json")


def _from_row(item: Input, row: dict[str, int], sha256: str) -> Input:
    return replace(
        item,
        key=part_key(item.key, row["part"]),
        sha256=sha256,
        offset=row["offset"],
        first=row["first"],
        end=row["end"],
        size=row["size"],
    )


def _scan(item: Input, run: Run) -> tuple[list[dict[str, int]], str]:
    """Rows for the parts of a file, and its SHA-256."""
    path = item.paths[0]
    wanted = max(run.recipe.caps.part_bytes, -(-item.size // MAX_PARTS))
    with files.open_raw(path) as raw:
        if item.kind == "parquet":
            found = record_starts(item.kind, raw, read_caps(run))
            return _rows(found, item.size, wanted), files.sha256(path)
        hashing = files.HashingReader(raw)
        stream = io.BufferedReader(hashing, files.PIECE)
        rows = _rows(record_starts(item.kind, stream, read_caps(run)), item.size, wanted)
        return rows, hashing.finish()


def _rows(starts: Iterable[Start], size: int, wanted: int) -> list[dict[str, int]]:
    """Cut at the first start that lies ``wanted`` bytes behind the last cut."""
    cuts = [Start(0, 0)]
    for start in starts:
        # What is left at the end must be worth a part of its own.
        if start.offset - cuts[-1].offset >= wanted and size - start.offset >= wanted // 2:
            cuts.append(start)
    ends = [*cuts[1:], Start(-1, size)]
    return [
        {
            "part": number,
            "offset": cut.offset,
            "first": cut.position,
            "end": following.position,
            "size": following.offset - cut.offset,
        }
        for number, (cut, following) in enumerate(zip(cuts, ends, strict=True))
    ]
