"""Global deduplication as composites: exact first, then near-duplicates with evidence.

    (key, verdicts) -> RemoveExactDuplicates -> RemoveNearDuplicates -> (key, verdicts)

What crosses a shuffle: 46 bytes a document for exact duplicates; 16 bytes a document and band for
candidates; and, only for documents that share a band with another, the signature. Grouping keys
are hash partitions, values are packed arrays, and results depend neither on the number of
partitions nor on the order of anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import apache_beam as beam
import numpy as np
from numpy.typing import NDArray

from filters.dedup import bands, components, exact, leaders
from filters.dedup.normalize import mix
from pipelines.run import Run, input_of_reference
from pipelines.sketch import Sketches, load_input, load_sketches
from pipelines.verdicts import CLUSTER, EXACT, NEAR, VERDICT, Keyed, MergeByInput, rows

Partitioned = tuple[int, bytes]


def takes_part(key: str, run: Run) -> bool:
    """Whether the documents of an input are compared with others at all."""
    source = load_input(run.input_file(key)).source
    return any(stage.name == "duplicates" for stage in run.finishing(source))


def by_input(verdicts: NDArray[np.void], references: NDArray[np.uint64]) -> Iterator[Keyed]:
    """Rows about documents anywhere, split into packed rows for each input."""
    keys = references >> np.uint64(24)
    verdicts["number"] = (references & np.uint64(0xFFFFFF)).astype(np.uint32)
    order = np.argsort(keys, kind="stable")
    bounds = np.flatnonzero(np.diff(keys[order])) + 1
    for part in np.split(order, bounds):
        if len(part):
            yield input_of_reference(int(references[part[0]])), verdicts[part].tobytes()


# --- exact --------------------------------------------------------------------------------------


class RemoveExactDuplicates(beam.PTransform):  # type: ignore[misc]
    """Among documents of equal content, all but the preferred are duplicates of it."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def expand(self, inputs: beam.PCollection) -> beam.PCollection:
        found = (
            inputs
            | "Contents"
            >> beam.FlatMapTuple(partial(contents, run=self._run)).with_output_types(Partitioned)
            | "Group contents" >> beam.GroupByKey()
            | "Choose keepers" >> beam.FlatMapTuple(choose_keepers).with_output_types(Keyed)
        )
        return (inputs, found) | "Verdicts" >> MergeByInput()


def contents(key: str, _verdicts: bytes, run: Run) -> Iterator[Partitioned]:
    """Content hash, reference, id and rank of every document of an input, by hash partition."""
    if not takes_part(key, run):
        return
    for sketches in load_sketches(key, run, ("content",)):
        records = np.zeros(len(sketches.number), exact.CONTENT)
        hashes = b"".join(value or b"" for value in sketches.binary("content"))
        records["content"] = np.frombuffer(hashes, "V16")
        records["ref"] = sketches.references
        records["id"] = sketches.id
        records["source_rank"] = sketches.rank
        records["length"] = sketches.length
        halves = np.frombuffer(hashes, "<u8")[::2]
        yield from _partitioned(records, halves, run.partitions)


def _partitioned(
    records: NDArray[np.void], hashes: NDArray[np.uint64], partitions: int
) -> Iterator[Partitioned]:
    yield from bands.split(records, bands.partition_of(hashes, partitions)).items()


def choose_keepers(_partition: int, blobs: Iterable[bytes]) -> Iterator[Keyed]:
    """Verdicts on the documents of one partition of contents."""
    groups = exact.exact_groups(blobs)
    verdicts = np.zeros(len(groups), VERDICT)
    verdicts["kind"] = EXACT
    verdicts["other"] = groups["keeper"]
    verdicts["value"] = 1.0
    yield from by_input(verdicts, groups["ref"])
    yield from _clusters(groups["keeper_ref"])


def _clusters(kept: NDArray[np.uint64]) -> Iterator[Keyed]:
    """For each document that others are duplicates of: how many."""
    references, counts = np.unique(kept, return_counts=True)
    verdicts = np.zeros(len(references), VERDICT)
    verdicts["kind"] = CLUSTER
    verdicts["value"] = counts
    yield from by_input(verdicts, references)


# --- near ---------------------------------------------------------------------------------------


class RemoveNearDuplicates(beam.PTransform):  # type: ignore[misc]
    """MinHash LSH: shared bands give candidates, components gather them, leaders decide.

    Every duplicate has direct evidence: its signature agrees with that of the document it is a
    duplicate of by more than the bound of the rule on ``dedup.jaccard``.
    """

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def expand(self, inputs: beam.PCollection) -> beam.PCollection:
        run = self._run
        placed = (
            inputs
            | "Bands"
            >> beam.FlatMapTuple(partial(band_records, run=run)).with_output_types(Partitioned)
            | "Group bands" >> beam.GroupByKey()
            | "Star edges" >> beam.MapTuple(star_edges).with_output_types(Partitioned)
            | "Group edges" >> beam.GroupByKey()
            | "Components" >> beam.FlatMapTuple(connect).with_output_types(Keyed)
            | "Components by input" >> beam.GroupByKey()
        )
        found = (
            placed
            | "Members"
            >> beam.FlatMapTuple(partial(members, run=run)).with_output_types(Partitioned)
            | "Group members" >> beam.GroupByKey()
            | "Choose leaders"
            >> beam.FlatMapTuple(partial(choose_leaders, run=run)).with_output_types(Keyed)
        )
        return (inputs, found) | "Verdicts" >> MergeByInput()


def band_records(key: str, verdicts: bytes, run: Run) -> Iterator[Partitioned]:
    """Band hashes of every document of an input that is no exact duplicate, by band and hash."""
    settings = run.recipe.stage("duplicates")
    if settings is None or not takes_part(key, run):
        return
    options = settings.options
    for sketches in load_sketches(key, run, ("signature",)):
        signed, matrix = signatures(sketches, verdicts, options.permutations)
        if not len(signed):
            continue
        hashes = bands.band_hashes(matrix, options.bands, options.rows)
        references = sketches.references[signed]
        for band in range(options.bands):
            records = bands.records(hashes[:, band], references)
            for place, blob in _partitioned(records, records["hash"], run.partitions):
                yield band * run.partitions + place, blob


def signatures(
    sketches: Sketches, verdicts: bytes, permutations: int
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Rows that have a signature and are no exact duplicates, and their signatures."""
    found = rows(verdicts)
    gone = set(found["number"][found["kind"] == EXACT].tolist())
    chosen = [
        (place, mark)
        for place, (number, mark) in enumerate(
            zip(sketches.number.tolist(), sketches.binary("signature"), strict=True)
        )
        if mark is not None and number not in gone
    ]
    matrix = np.frombuffer(b"".join(mark for _, mark in chosen), np.dtype("<u4"))
    return (
        np.array([place for place, _ in chosen], dtype=np.int64),
        matrix.reshape(len(chosen), permutations),
    )


def star_edges(_band: int, blobs: Iterable[bytes]) -> Partitioned:
    """Edges from each member of a bucket to its first."""
    return 0, bands.star_edges(blobs)


def connect(_one: int, blobs: Iterable[bytes]) -> Iterator[Keyed]:
    """Documents that are connected through shared bands, as (reference, component) by input."""
    found = components.components(blobs)
    keys = found["ref"] >> np.uint64(24)
    for key in np.unique(keys):
        yield f"{int(key):010x}", found[keys == key].tobytes()


def members(key: str, blobs: Iterable[bytes], run: Run) -> Iterator[Partitioned]:
    """The signature and rank of every document of an input that is in a component."""
    settings = run.recipe.stage("duplicates")
    assert settings is not None
    permutations = settings.options.permutations
    found = np.frombuffer(b"".join(blobs), components.COMPONENT)
    component = dict(zip(found["ref"].tolist(), found["component"].tolist(), strict=True))
    for sketches in load_sketches(key, run, ("signature",)):
        references = sketches.references
        marks = sketches.binary("signature")
        wanted = [n for n, ref in enumerate(references.tolist()) if ref in component]
        if not wanted:
            continue
        records = np.zeros(len(wanted), leaders.member_dtype(permutations))
        records["component"] = [component[int(references[n])] for n in wanted]
        records["ref"] = references[wanted]
        records["id"] = sketches.id[wanted]
        records["source_rank"] = sketches.rank
        records["length"] = sketches.length[wanted]
        joined = b"".join(marks[n] or b"" for n in wanted)
        records["signature"] = np.frombuffer(joined, "<u4").reshape(len(wanted), permutations)
        yield from _partitioned(records, mix(records["component"]), run.partitions)


def choose_leaders(_partition: int, blobs: Iterable[bytes], run: Run) -> Iterator[Keyed]:
    """Verdicts on the documents of some components."""
    settings = run.recipe.stage("duplicates")
    assert settings is not None
    options = settings.options
    records = np.frombuffer(b"".join(blobs), leaders.member_dtype(options.permutations))
    found = leaders.leaders(records, similarity_bound(run))
    verdicts = np.zeros(len(found), VERDICT)
    verdicts["kind"] = NEAR
    verdicts["other"] = found["leader"]
    verdicts["value"] = found["jaccard"]
    yield from by_input(verdicts, found["ref"])
    yield from _clusters(found["leader_ref"])


def similarity_bound(run: Run) -> float:
    """The similarity above which documents are duplicates: the bound on ``dedup.jaccard``.

    Where several rules bound it, the lowest bound of those that drop decides, and of those that
    tag where none drops: a tag must not change what is dropped.
    """
    settings = run.recipe.stage("duplicates")
    assert settings is not None
    rules = [r for r in settings.rules if r.signal == "dedup.jaccard"]
    deciding = [r for r in rules if r.action == "drop"] or rules
    return min((r.bound.max for r in deciding if r.bound.max is not None), default=1.0)
