"""Documents to token shards: the part of the graph behind the final tables.

    units - tokenize - (by source) - share out to shards - pack

Tokens go to files of the work directory, one set a unit; what crosses the shuffle is a line about
each. A shard is made of whole units, so no token is shuffled: documents are shuffled within a
shard, and windows over all shards when they are read.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics.metric import Metrics
from numpy.typing import NDArray

from filters.hashing import hash64
from pipelines import corpus, files, held_out, metrics, progress, tables
from pipelines.corpus import Unit
from pipelines.pack_run import Group, PackRun, Tokenized, make_groups
from tokenizer import special
from tokenizer.packing import Breaks, pack
from tokenizer.shards import DOCUMENTS, INDEX, build, make_index

Keyed = tuple[str, str]


class PackDocuments(beam.PTransform):  # type: ignore[misc]
    """Units in JSON to shards and their index; gives the path of the index."""

    def __init__(self, run: PackRun) -> None:
        super().__init__()
        self._run = run

    def expand(self, units: beam.PCollection) -> beam.PCollection:
        return (
            units
            | "Tokenize" >> TokenizeUnits(self._run)
            | "By source" >> beam.GroupByKey()
            | "Share out"
            >> beam.FlatMapTuple(partial(share_out, run=self._run)).with_output_types(str)
            | "Deal out shards" >> beam.Reshuffle()
            | "Pack" >> PackGroups(self._run)
            | "One key" >> beam.WithKeys("").with_output_types(Keyed)
            | "All shards" >> beam.GroupByKey()
            | "Write index" >> beam.MapTuple(partial(_index_of, run=self._run))
        )


class TokenizeUnits(beam.PTransform):  # type: ignore[misc]
    """Tokenize units in JSON; gives ``(source, what was tokenized in JSON)``."""

    def __init__(self, run: PackRun) -> None:
        super().__init__()
        self._run = run

    def expand(self, units: beam.PCollection) -> beam.PCollection:
        return units | "Tokenize unit" >> beam.FlatMap(tokenize_unit, self._run).with_output_types(
            Keyed
        )


class PackGroups(beam.PTransform):  # type: ignore[misc]
    """Write the shards of groups in JSON; gives their entries in the index, in JSON."""

    def __init__(self, run: PackRun) -> None:
        super().__init__()
        self._run = run

    def expand(self, groups: beam.PCollection) -> beam.PCollection:
        return groups | "Pack shard" >> beam.Map(pack_group, self._run).with_output_types(str)


# --- tokenize -----------------------------------------------------------------------------------


def tokenize_unit(text: str, run: PackRun) -> Iterator[Keyed]:
    """Tokenize the documents of a unit, unless that is done; gives its tokens by class."""
    unit = Unit.from_json(text)
    marker = run.unit_file(unit, "parquet")
    if not files.exists(marker):
        _write_tokens(unit, run)
    progress.tell("sealed", input=unit.key)
    for item in tokenized(unit, run):
        yield item.source, json.dumps({"tokens": item.tokens, "unit": text})


def _write_tokens(unit: Unit, run: PackRun) -> None:
    """The tokens of a unit as one array, and then, as the marker, a row for each document.

    A document without text has no row, nor has one that is set aside or a copy of such a one; of
    the copies there is a list.
    """
    tokenizer = run.load_tokenizer()
    aside = held_out.of_run(run)
    copies: list[dict[str, Any]] = []
    table = corpus.read(unit, ["id", "url", "source", "language", "text"])
    rows: list[dict[str, Any]] = []
    ids: list[NDArray[Any]] = []
    for batch in table.to_batches(max_chunksize=256):
        for row in batch.to_pylist():
            content = row.pop("text")
            if not content:
                continue
            match = aside.match(row["id"], row["url"], content) if aside else None
            if match is not None:
                if match.why != "itself":
                    kept = {key: row[key] for key in ("id", "url", "source")}
                    copies.append({**kept, **asdict(match)})
                continue
            found = np.append(tokenizer.encode(content), special.EOS_ID).astype(tokenizer.dtype)
            ids.append(found)
            rows.append({**row, "bytes": len(content.encode()), "tokens": len(found)})
    Metrics.counter(metrics.PROGRESS, "documents tokenized").inc(len(rows))
    Metrics.counter(metrics.PROGRESS, "tokens").inc(sum(map(len, ids)))
    stream = np.concatenate([np.zeros(0, tokenizer.dtype), *ids])
    buffer = io.BytesIO()
    np.save(buffer, stream, allow_pickle=False)
    files.write_bytes(run.unit_file(unit, "npy"), buffer.getvalue())
    if aside is not None:
        listed = tables.to_bytes(tables.rows_table(copies, held_out.COPY_ROWS))
        files.write_bytes(run.unit_file(unit, "copies.parquet"), listed)
        Metrics.counter(metrics.PROGRESS, "copies of held-out documents").inc(len(copies))
    content = tables.to_bytes(tables.rows_table(rows, DOCUMENTS))
    files.write_bytes(run.unit_file(unit, "parquet"), content)


def tokenized(unit: Unit, run: PackRun) -> list[Tokenized]:
    """How many tokens a tokenized unit has of each class, those that it has."""
    lengths = _rows(unit, run, ["tokens"])["tokens"].to_pylist()
    found: dict[str, int] = {}
    for count in lengths:
        source = run.class_of(unit.source, count)
        found[source] = found.get(source, 0) + count
    return [Tokenized(source, count, unit) for source, count in sorted(found.items())]


def _rows(unit: Unit, run: PackRun, columns: list[str] | None = None) -> pa.Table:
    return tables.from_bytes(files.read_bytes(run.unit_file(unit, "parquet")), columns)


# --- pack ---------------------------------------------------------------------------------------


def share_out(source: str, found: Iterable[str], run: PackRun) -> Iterator[str]:
    """The groups of a source, in JSON. Holds a line for each of its units: 300 bytes."""
    items = []
    for text in found:
        fields = json.loads(text)
        items.append(Tokenized(source, fields["tokens"], Unit.from_json(fields["unit"])))
    for group in make_groups(source, items, run.shard_tokens):
        yield group.to_json()


def pack_group(text: str, run: PackRun) -> str:
    """Write the files of one shard, unless they are there; gives its entry in the index as JSON."""
    group = Group.from_json(text)
    entry = packed_entry(group, run)
    if entry is None:
        entry = _write_shard(group, run)
    progress.tell("sealed", input=group.key)
    return json.dumps(entry)


def packed_entry(group: Group, run: PackRun) -> dict[str, Any] | None:
    """What the index says of a shard, where its files are there as they were written."""
    found = files.find_json(run.entry_file(group))
    if found is None or found["state"] != run.state(group):
        return None
    entry: dict[str, Any] = found["entry"]
    there = all(
        files.size(files.join(run.target, name)) == facts["bytes"]
        for name, facts in entry["files"].items()
    )
    return entry if there else None


def _write_shard(group: Group, run: PackRun) -> dict[str, Any]:
    rows, tokens = _documents(group, run)
    priorities = [hash64(f"{run.seed}:{name}") for name in rows["id"].to_pylist()]
    order = np.argsort(np.array(priorities, np.uint64), kind="stable")
    rows = rows.take(order)
    tokens = [tokens[place] for place in order.tolist()]
    lengths = np.array([len(ids) for ids in tokens], np.int64)
    packed = pack(lengths, run.sequence_length, run.method, _breaks(tokens, run))
    shard = build(
        group.key, group.source, packed, tokens, rows,
        pad=special.PAD_ID, dtype=run.load_tokenizer().dtype,
    )  # fmt: skip
    contents = shard.files()
    entry = shard.entry(contents)
    # What vouches for the files that are there goes before they do.
    files.remove([run.entry_file(group)])
    for name, content in contents.items():
        files.write_bytes(files.join(run.target, name), content)
    files.write_json(run.entry_file(group), {"state": run.state(group), "entry": entry})
    Metrics.counter(metrics.PROGRESS, "windows").inc(packed.windows)
    return entry


def _documents(group: Group, run: PackRun) -> tuple[pa.Table, list[NDArray[Any]]]:
    """Rows and tokens of the documents of a group, those of its class."""
    found: list[pa.Table] = []
    tokens: list[NDArray[Any]] = []
    for unit in group.units:
        rows = _rows(unit, run)
        lengths = rows["tokens"].to_numpy()
        ends = np.cumsum(lengths)
        stream = np.load(
            io.BytesIO(files.read_bytes(run.unit_file(unit, "npy"))), allow_pickle=False
        )
        mine = [n for n, count in enumerate(lengths.tolist())
                if run.class_of(unit.source, count) == group.source]  # fmt: skip
        found.append(rows.take(mine))
        tokens.extend(stream[ends[n] - lengths[n] : ends[n]] for n in mine)
    return pa.concat_tables(found).cast(DOCUMENTS).combine_chunks(), tokens


def _breaks(tokens: list[NDArray[Any]], run: PackRun) -> Breaks | None:
    """Where documents may be cut: behind each newline."""
    if run.cut == "window":
        return None
    newline = run.load_tokenizer().pieces.index(special.NEWLINE)
    return lambda document: np.flatnonzero(tokens[document] == newline) + 1


# --- index --------------------------------------------------------------------------------------


def _index_of(_key: str, entries: Iterable[str], run: PackRun) -> str:
    return write_index(map(json.loads, entries), run)


def write_index(entries: Iterable[dict[str, Any]], run: PackRun) -> str:
    """Write ``index.json`` from all entries; gives its path."""
    tokenizer = run.load_tokenizer()
    index = make_index(
        entries,
        length=run.sequence_length,
        dtype=tokenizer.dtype,
        tokenizer={
            "sha256": tokenizer.sha256,
            "vocab_size": tokenizer.vocab_size,
            "pad": special.PAD_ID,
            "eos": special.EOS_ID,
        },
        packing={
            "method": run.method,
            "cut": run.cut if run.method == "best-fit" else "window",
            "long_tokens": run.long_tokens,
            "shard_tokens": run.shard_tokens,
            "seed": run.seed,
        },
        held_out=run.held_out_sha256 or None,
    )
    path = files.join(run.target, INDEX)
    files.write_json(path, index)
    return path
