"""An exact sample of a corpus by a seed: the training text of a tokenizer.

Each document has a priority, a hash of the seed and its id. A *draw* takes the documents of the
smallest priority until it has as many bytes as it asks for; the last is cut. So a sample depends
on what there is and on the seed, not on who reads what in which order, and a larger one holds the
smaller (bottom-k sampling; Cohen and Kaplan, "Summarizing Data using Bottom-k Sketches", PODC
2007, section 2).

    units - weigh - merge in parts - merge - limits
    units + limits - take texts - files

What crosses a shuffle is 16 bytes a document, cut down to the budget at each merge; the texts go
to files of the work directory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.hashing import hash64
from pipelines import corpus, files, tables
from pipelines.corpus import Unit

WEIGHED = np.dtype([("priority", "<u8"), ("bytes", "<u8")])
PARTS = 64
"""The first merge of a draw is spread over so many keys, so that none holds the whole corpus."""

TAKEN = pa.schema(
    [
        ("draw", pa.string()),
        ("priority", pa.uint64()),
        ("source", pa.string()),
        ("language", pa.string()),
        ("text", pa.large_string()),
    ]
)
Keyed = tuple[str, bytes]


@dataclass(frozen=True)
class Draw:
    """A sample to take: so many bytes, from tables of these folders and sources."""

    name: str
    budget: int
    folders: tuple[str, ...]
    sources: tuple[str, ...]

    def takes_from(self, unit: Unit) -> bool:
        """Whether the documents of a unit can be taken."""
        return unit.folder in self.folders and unit.source in self.sources


@dataclass(frozen=True)
class Limit:
    """Where a draw ends: all documents of a smaller priority, and the first bytes of this one."""

    priority: int
    last_bytes: int
    documents: int
    bytes: int


@dataclass(frozen=True)
class Sampling(files.CarriesStore):
    """What workers must know: the draws, the seed, and where texts go."""

    draws: tuple[Draw, ...]
    seed: int
    folder: str
    store: tuple[tuple[str, Any], ...] = ()

    def of(self, unit: Unit) -> list[Draw]:
        """The draws that take from a unit."""
        return [draw for draw in self.draws if draw.takes_from(unit)]


class SampleTexts(beam.PTransform):  # type: ignore[misc]
    """Take all draws from units in JSON; gives the paths of files of taken texts."""

    def __init__(self, sampling: Sampling) -> None:
        super().__init__()
        self._sampling = sampling

    def expand(self, units: beam.PCollection) -> beam.PCollection:
        sampling = self._sampling
        limits = (
            units
            | "Weigh" >> beam.FlatMap(weigh, sampling).with_output_types(Keyed)
            | "By draw and part" >> beam.GroupByKey()
            | "Merge parts"
            >> beam.MapTuple(partial(merge_part, sampling=sampling)).with_output_types(Keyed)
            | "By draw" >> beam.GroupByKey()
            | "Find limits" >> beam.MapTuple(partial(find_limit, sampling=sampling))
        )
        return units | "Take texts" >> beam.FlatMap(take, beam.pvalue.AsDict(limits), sampling)


def weigh(text: str, sampling: Sampling) -> Iterator[Keyed]:
    """For each draw of a unit: priorities and sizes of its documents, those that can be taken."""
    unit = Unit.from_json(text)
    draws = sampling.of(unit)
    if not draws:
        return
    table = corpus.read(unit, ["id", "text"])
    rows = np.zeros(table.num_rows, WEIGHED)
    rows["priority"] = _priorities(table["id"], sampling.seed)
    rows["bytes"] = pc.fill_null(pc.binary_length(table["text"]), 0).to_numpy()
    rows = rows[rows["bytes"] > 0]
    part = hash64(unit.key) % PARTS
    for draw in draws:
        kept = smallest(rows, draw.budget)
        if len(kept):
            yield f"{draw.name}\0{part}", kept.tobytes()


def _priorities(ids: pa.ChunkedArray, seed: int) -> NDArray[np.uint64]:
    return np.array([hash64(f"{seed}:{name}") for name in ids.to_pylist()], dtype=np.uint64)


def smallest(rows: NDArray[np.void], budget: int) -> NDArray[np.void]:
    """The rows of smallest priority that together reach the budget, in order of priority."""
    ordered = rows[np.argsort(rows["priority"], kind="stable")]
    enough = int(np.searchsorted(np.cumsum(ordered["bytes"]), budget))
    return ordered[: enough + 1]


def _merged(blobs: Iterable[bytes], budget: int) -> NDArray[np.void]:
    kept = np.zeros(0, WEIGHED)
    for blob in blobs:
        kept = smallest(np.concatenate([kept, np.frombuffer(blob, WEIGHED)]), budget)
    return kept


def merge_part(key: str, blobs: Iterable[bytes], sampling: Sampling) -> Keyed:
    """The smallest priorities of one part of a draw."""
    name = key.partition("\0")[0]
    return name, _merged(blobs, _draw(sampling, name).budget).tobytes()


def find_limit(name: str, blobs: Iterable[bytes], sampling: Sampling) -> tuple[str, Limit]:
    """Where a draw ends."""
    budget = _draw(sampling, name).budget
    kept = _merged(blobs, budget)
    total = int(kept["bytes"].sum())
    last = int(kept["bytes"][-1]) - max(0, total - budget)
    return name, Limit(int(kept["priority"][-1]), last, len(kept), min(total, budget))


def _draw(sampling: Sampling, name: str) -> Draw:
    return next(draw for draw in sampling.draws if draw.name == name)


def take(text: str, limits: Mapping[str, Limit], sampling: Sampling) -> Iterator[str]:
    """Write what the draws take of a unit to a file; gives its path, where there is anything."""
    unit = Unit.from_json(text)
    draws = [draw for draw in sampling.of(unit) if draw.name in limits]
    if not draws:
        return
    table = corpus.read(unit, ["id", "source", "language", "text"])
    priorities = _priorities(table["id"], sampling.seed)
    rows: list[dict[str, Any]] = []
    for draw in draws:
        limit = limits[draw.name]
        for place in np.flatnonzero(priorities <= np.uint64(limit.priority)).tolist():
            row = table.slice(place, 1).to_pylist()[0]
            if row["text"]:
                cut = limit.last_bytes if priorities[place] == limit.priority else None
                rows.append(_taken(draw.name, int(priorities[place]), row, cut))
    if not rows:
        return
    path = files.join(sampling.folder, f"{unit.folder}-{unit.key}.parquet")
    files.write_bytes(path, tables.to_bytes(tables.rows_table(rows, TAKEN)))
    yield path


def _taken(draw: str, priority: int, row: Mapping[str, Any], cut: int | None) -> dict[str, Any]:
    text = row["text"]
    if cut is not None:
        text = text.encode()[:cut].decode(errors="ignore")
    return {
        "draw": draw,
        "priority": priority,
        "source": row["source"],
        "language": row["language"] or "",
        "text": text,
    }


def read_draw(paths: Sequence[str], name: str) -> pa.Table:
    """The texts of one draw, in order of priority."""
    found = [
        tables.from_bytes(files.read_bytes(path)).filter(pc.field("draw") == name)
        for path in sorted(paths)
    ]
    table = pa.concat_tables([TAKEN.empty_table(), *found])
    return table.sort_by("priority")


def state(draws: Sequence[Draw], seed: int, tables_: Iterable[corpus.Table]) -> str:
    """What a sample depends on, as a name for its folder."""
    content = {
        "draws": [[d.name, d.budget, d.folders, d.sources] for d in draws],
        "seed": seed,
        "tables": sorted(f"{t.folder}/{t.name} {t.sha256}" for t in tables_),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
