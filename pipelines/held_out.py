"""Documents set aside for validation, before anything is tokenized, and their copies removed.

What a model is judged on must not be among what it has learned, nor must a copy of it. Of each
source those documents are set aside whose ids have the lowest hashes, so that they are the same
however a corpus is packed, and mostly the same when it grows. Every other document that has the id
or the URL of one of them, or is its exact or near duplicate by the rules of deduplication (equal up
to white space; or a MinHash similarity above the bound of the shipped recipes), goes to no shard,
and is listed with what it is a copy of.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa

from filters.dedup.bands import band_hashes
from filters.dedup.signatures import (
    Signature,
    SignatureParams,
    content_hash,
    estimate_jaccard,
    signature,
)
from filters.hashing import hash64
from pipelines import corpus, files, progress, tables
from pipelines.corpus import Table, Unit
from pipelines.held_out_file import FILE
from pipelines.inputs_error import InputError
from pipelines.pack_run import PackRun
from pipelines.resources import local_copy

SHARE = 0.01
LEAST, MOST = 16, 2000
"""Documents of a source, about, that are set aside however large it is; of a source that is too
small for the least, a tenth."""

SMALL = 1000
"""Of a source that has no more, every document is a candidate."""

BOUND = 0.75
"""The similarity above which documents are copies: the recipes' bound on ``dedup.jaccard``."""

COPIES = "held-out-copies.parquet"
"""Beside the shards: what was removed from training because of the documents in ``FILE``."""

ROWS = pa.schema(
    [("id", pa.string()), ("url", pa.string()), ("source", pa.string()),
     ("language", pa.string()), ("text", pa.string())]
)  # fmt: skip
COPY_ROWS = pa.schema(
    [("id", pa.string()), ("url", pa.string()), ("source", pa.string()), ("of", pa.string()),
     ("why", pa.string()), ("similarity", pa.float64())]
)  # fmt: skip


@dataclass(frozen=True)
class Match:
    """A document that may not be learned from: what it is a copy of, and by which rule."""

    of: str
    why: str
    similarity: float


class HeldOut:
    """The documents set aside, and a look-up of copies. Holds 2 kB a document beside its text."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self.params = SignatureParams()
        self._ids: set[str] = set()
        self._urls: dict[str, str] = {}
        self._contents: dict[bytes, str] = {}
        self._signatures: dict[str, Signature] = {}
        self._buckets: dict[int, list[str]] = {}
        for row in rows:
            self._add(row["id"], row["url"], row["text"])

    def __len__(self) -> int:
        return len(self._ids)

    def _add(self, name: str, url: str | None, text: str) -> None:
        self._ids.add(name)
        if url:
            self._urls.setdefault(url, name)
        self._contents.setdefault(content_hash(text), name)
        mark = signature(text, self.params)
        if mark is not None:
            self._signatures[name] = mark
            for value in self._bands(mark):
                self._buckets.setdefault(value, []).append(name)

    def _bands(self, mark: Signature) -> list[int]:
        found: list[int] = band_hashes(mark, self.params.bands, self.params.rows).tolist()
        return found

    def match(self, name: str, url: str | None, text: str) -> Match | None:
        """Which of the documents set aside this one is, or is a copy of; ``None`` for neither."""
        if name in self._ids:
            return Match(name, "itself", 1.0)
        if url and url in self._urls:
            return Match(self._urls[url], "url", 1.0)
        same = self._contents.get(content_hash(text))
        if same is not None:
            return Match(same, "exact", 1.0)
        mark = signature(text, self.params) if self._signatures else None
        if mark is None:
            return None
        near = {other for value in self._bands(mark) for other in self._buckets.get(value, ())}
        similar = [(estimate_jaccard(mark, self._signatures[other]), other) for other in near]
        value, other = max(similar, default=(0.0, ""))
        return Match(other, "near", value) if value > BOUND else None


def wanted(documents: Mapping[str, int], share: float) -> dict[str, int]:
    """How many documents of each source to set aside, from their numbers."""
    return {
        source: min(MOST, round(max(share * count, min(LEAST, count / 10))))
        for source, count in sorted(documents.items())
    }


def candidate_rates(documents: Mapping[str, int], share: float) -> dict[str, float]:
    """The share of each source's documents that are candidates: three times as many as are wanted,
    so that there are enough (that a hundred would not be is less likely than 1e-9), or all."""
    return {
        source: 1.0 if documents[source] <= SMALL else min(1.0, 3 * count / documents[source])
        for source, count in wanted(documents, share).items()
    }


def is_candidate(name: str, rate: float) -> bool:
    """Whether a document is a candidate, by its id."""
    return priority(name) < int(rate * 2**64)


def priority(name: str) -> int:
    """Documents of the lowest are set aside; by the id alone, whatever else a corpus has."""
    return hash64(f"held-out:{name}")


def choose(candidates: pa.Table, counts: Mapping[str, int]) -> pa.Table:
    """Of each source as many as are wanted, sorted by id; of equal ids the first."""
    ids = candidates["id"].to_pylist()
    ordered = sorted(range(len(ids)), key=lambda row: (priority(ids[row]), ids[row]))
    left = dict(counts)
    sources = candidates["source"].to_pylist()
    taken = []
    for row in ordered:
        if left.get(sources[row], 0) > 0:
            left[sources[row]] -= 1
            taken.append(row)
    return sort(candidates.take(taken))


def set_aside(unit: Unit, run: PackRun) -> pa.Table:
    """The candidates of a unit: ``ROWS``. Texts of others are not read."""
    rate = dict(run.held_out_rates).get(unit.source, 0.0)
    found = []
    for group in range(unit.first, unit.end):
        ids = corpus.read_groups(unit, [group], ["id"])["id"].to_pylist()
        chosen = [place for place, name in enumerate(ids) if is_candidate(name, rate)]
        if chosen:
            rows = corpus.read_groups(unit, [group], ROWS.names)
            found.append(rows.take(chosen).select(ROWS.names).cast(ROWS))
    table = pa.concat_tables([ROWS.empty_table(), *found])
    return table.filter(pa.compute.greater(pa.compute.utf8_length(table["text"]), 0))


class SetAside(beam.PTransform):  # type: ignore[misc]
    """Units in JSON to files of the work directory, one a unit; gives their keys."""

    def __init__(self, run: PackRun) -> None:
        super().__init__()
        self._run = run

    def expand(self, units: beam.PCollection) -> beam.PCollection:
        return units | "Set aside" >> beam.Map(set_aside_unit, self._run).with_output_types(str)


def set_aside_unit(text: str, run: PackRun) -> str:
    """Write the candidates of a unit; gives its key."""
    unit = Unit.from_json(text)
    files.write_bytes(run.aside_file(unit), tables.to_bytes(set_aside(unit, run)))
    progress.tell("sealed", input=unit.key)
    return unit.key


def gather(one: str, of: Sequence[Table], schema: pa.Schema) -> pa.Table:
    """The rows of all units of some tables, from the files that lie beside the one of any unit.

    Of other files that lie there, left by tables that are no more, nothing is taken.
    """
    folder, _, name = one.rpartition("/")
    ending = name.partition(".")[2]
    known = {(table.name, table.sha256[:16]) for table in of}
    found = [schema.empty_table()]
    for path, _, _ in files.listing(files.join(folder, f"*.{ending}")):
        key, _, digest = path.rpartition("/")[2].removesuffix(f".{ending}").rpartition("-")
        if (key.rpartition("-")[0], digest) in known:
            found.append(tables.from_bytes(files.read_bytes(path)))
    return sort(pa.concat_tables(found))


def sort(table: pa.Table) -> pa.Table:
    """By id: the same bytes however the documents came together."""
    return table.sort_by("id").combine_chunks()


def read(path: str) -> pa.Table:
    """Documents set aside earlier: a file, or the folder of shards that has it.

    Raises:
      InputError: there is none, or it is another table.
    """
    place = path if path.endswith(".parquet") else files.join(path, FILE)
    try:
        table = tables.from_bytes(files.read_bytes(place))
    except (OSError, pa.ArrowException) as error:
        first = str(error).split("\n")[0]
        raise InputError(
            f"cannot read documents set aside from {place}: {first}; give a share such as 0.01, "
            f"a folder of shards, or its {FILE}"
        ) from None
    if not set(ROWS.names) <= set(table.schema.names):
        raise InputError(
            f"{place} has the columns {', '.join(table.schema.names)}; documents set aside have "
            f"{', '.join(ROWS.names)}"
        )
    return sort(table.select(ROWS.names).cast(ROWS))


@functools.lru_cache(maxsize=1)
def load(staged: str, digest: str) -> HeldOut:
    """The documents that a run sets aside, loaded once a process from this machine's copy."""
    with open(local_copy(staged, digest), "rb") as handle:
        return HeldOut(tables.from_bytes(handle.read()).to_pylist())


def of_run(run: PackRun) -> HeldOut | None:
    """``load`` for a run, or ``None`` where nothing is set aside."""
    return None if run.held_out is None else load(run.held_out, run.held_out_sha256)


def counts(found: Sequence[Table]) -> dict[str, int]:
    """How many documents each source has."""
    totals: dict[str, int] = {}
    for table in found:
        totals[table.source] = totals.get(table.source, 0) + table.rows
    return totals
