"""Global deduplication as composites: exact first, then near-duplicates with evidence.

    (key, verdicts) -> RemoveExactDuplicates -> RemoveNearDuplicates -> (key, verdicts)

Grouping keys are hash partitions, or inputs where verdicts go back to them; values are packed
arrays; and results depend neither on the number of partitions nor on the order of anything.

What crosses each shuffle, and how much of it the largest key holds. The example has 1.4e9 documents
that come here, 256 partitions, 14 bands of 8, inputs of 40,000 documents, and 30 % of documents
share a band with another: 4.2e8 candidates. In brackets is the worst case: each band of a candidate
an edge of its own, or an input of 16.7 million documents, which is the most it can have.

    shuffle               bytes                                   keys     rows at a key
    Group contents        46 a document                           256      252 MB, copies
    Group bands           16 a document and band                  14 x 256 88 MB, bucket
    Group edges           16 an edge, 5 edges a candidate         256      131 MB (368 MB)
    Group ends 1, 2, ..   32 an edge, 1 edge a candidate          256      53 MB, star
    Group edges 1, 2, ..  16 an edge                              256      26 MB
    Group ends            32 an edge                              256      53 MB, star
    Group remainder       16 an edge                              1        MAX_EDGES: 537 MB
    Group settled         16 a candidate or node of the remainder 256      27 MB, star
    Group components      16 a candidate                          256      26 MB, star
    Memberships by input  24 a candidate                          inputs   0.3 MB (403 MB)
    Group members         46 and the signature, a candidate       16 x 256 51 MB, part
    Group leaders         the same, only for parts                16 x 256 51 MB, part
    Verdicts              29 a verdict                            inputs   0.5 MB (487 MB)

Edges a candidate, before and after the first step, are measured: see ``filters.dedup.stars``, where
3 to 10 and .8 to 1 were found. On top of its share of the rows a key has

* *copies*, *bucket*: 46 bytes for each copy of its most frequent content, and 16 for each document
  of its largest bucket, 1.6 GB where 100 million documents share a band;
* *star*: 16 bytes for each member of its largest component, 1.6 GB where that has 100 million;
* *part*: members of at most ``parts.MAX_MEMBERS`` documents of a component, 65 MB with 112 numbers.

More than ``components.MAX_EDGES`` edges in the remainder end the run with an error. The memory of a
step at its peak in multiples of its rows, measured: contents 4, bands 6, edges and stars 6, the
remainder 8, components 5, members 5.

With one partition, which is what a run over less than 512 MiB of inputs has, all edges are at one
key anyway. They go to ``components.components`` at once, under the same bound, and everything from
"Group ends 1" to "Group components" is not part of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
from numpy.typing import NDArray

from filters.dedup import bands, components, exact, leaders, parts, stars, steps
from filters.dedup.steps import ASIDE, Partitioned
from pipelines.composite import Composite
from pipelines.metrics import metered
from pipelines.run import Run, input_of_reference
from pipelines.sketch import Sketches, load_input, load_sketches
from pipelines.verdicts import CLUSTER, EXACT, NEAR, VERDICT, Keyed, MergeByInput, rows

MEMBER_PARTITIONS = 16
"""Keys for signatures in each partition of the rest: their rows are 30 times as large."""

GATHERED = 1 << 16
"""Rows of an input that are split into partitions together, lest a blob be a row or two."""


def step(label: str, function: Callable[..., Iterator[Partitioned]], **of: Any) -> beam.PTransform:
    """A step that gives rows for partitions, under a label of its own."""
    metered_function = metered(partial(function, **of), label)
    return label >> beam.FlatMapTuple(metered_function).with_output_types(Partitioned)


def by_reference(function: Callable[..., Iterator[Keyed]]) -> beam.PTransform:
    """A step that gives rows about documents back to their inputs."""
    return beam.FlatMapTuple(metered(function, "Verdicts")).with_output_types(Keyed)


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


def gathered(tables: Iterable[NDArray[np.void]]) -> Iterator[NDArray[np.void]]:
    """Tables of one type, joined until they have ``GATHERED`` rows; batches have 256 at most."""
    held: list[NDArray[np.void]] = []
    for table in tables:
        held.append(table)
        if sum(map(len, held)) >= GATHERED:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


# --- exact --------------------------------------------------------------------------------------


class RemoveExactDuplicates(Composite):
    """Among documents of equal content, all but the preferred are duplicates of it."""

    def expand(self, inputs: beam.PCollection) -> beam.PCollection:
        found = (
            inputs
            | step("Contents", contents, run=self._run)
            | "Group contents" >> beam.GroupByKey()
            | "Choose keepers" >> by_reference(choose_keepers)
        )
        return (inputs, found) | "Verdicts" >> MergeByInput()


def contents(key: str, _verdicts: bytes, run: Run) -> Iterator[Partitioned]:
    """Content hash, reference, id and rank of every document of an input, by hash partition."""
    if not takes_part(key, run):
        return
    tables = map(_contents, load_sketches(key, run, ("content",)))
    for records in gathered(tables):
        halves = np.ascontiguousarray(records["content"]).view("<u8")[::2]
        yield from bands.split(records, bands.partition_of(halves, run.partitions)).items()


def _contents(sketches: Sketches) -> NDArray[np.void]:
    records = np.zeros(len(sketches.number), exact.CONTENT)
    hashes = b"".join(value or b"" for value in sketches.binary("content"))
    records["content"] = np.frombuffer(hashes, "V16")
    records["ref"] = sketches.references
    records["id"] = sketches.id
    records["source_rank"] = sketches.rank
    records["length"] = sketches.length
    return records


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


class RemoveNearDuplicates(Composite):
    """MinHash LSH: shared bands give candidates, components gather them, leaders decide.

    Every duplicate has direct evidence: its signature agrees with that of the document it is a
    duplicate of by more than the bound of the rule on ``dedup.jaccard``. Components of more than
    ``max_members`` are compared in parts: see ``filters.dedup.parts``.
    """

    def __init__(self, run: Run, max_members: int = parts.MAX_MEMBERS) -> None:
        super().__init__(run)
        self._max_members = max_members

    def expand(self, inputs: beam.PCollection) -> beam.PCollection:
        run, most = self._run, self._max_members
        first = (
            inputs
            | step("Bands", band_records, run=run)
            | "Group bands" >> beam.GroupByKey()
            | step("Star edges", steps.star_edges, partitions=run.partitions)
            | "Connect" >> ConnectCandidates(run.partitions)
            | step("Members", members, run=run, max_members=most)
            | "Group members" >> beam.GroupByKey()
            | step("Choose leaders", choose_leaders, run=run, max_members=most)
        )
        again = (
            first
            | step("Leaders of parts", steps.ahead)
            | "Group leaders" >> beam.GroupByKey()
            | step("Choose again", choose_leaders, run=run, max_members=most)
        )
        found = (
            first | "Near duplicates" >> by_reference(near_duplicates),
            again | "Across parts" >> by_reference(near_duplicates),
        )
        return (inputs, *found) | "Verdicts" >> MergeByInput()


def band_records(key: str, verdicts: bytes, run: Run) -> Iterator[Partitioned]:
    """Band hashes of every document of an input that is no exact duplicate, by band and hash."""
    settings = run.recipe.stage("duplicates")
    if settings is None or not takes_part(key, run):
        return
    options = settings.options
    found = rows(verdicts)
    gone = found["number"][found["kind"] == EXACT]
    table = np.dtype([("node", "<u8"), ("hashes", "<u8", (options.bands,))])

    def hashed() -> Iterator[NDArray[np.void]]:
        for sketches in load_sketches(key, run, ("signature",)):
            signed, matrix = signatures(sketches, gone, options.permutations)
            batch = np.empty(len(signed), table)
            batch["node"] = stars.nodes_of(sketches.references[signed])
            batch["hashes"] = bands.band_hashes(matrix, options.bands, options.rows)
            yield batch

    for batch in gathered(hashed()):
        for band in range(options.bands):
            records = bands.records(batch["hashes"][:, band], batch["node"])
            places = bands.partition_of(records["hash"], run.partitions)
            for place, blob in bands.split(records, places).items():
                yield band * run.partitions + place, blob


def signatures(
    sketches: Sketches, gone: NDArray[np.uint32], permutations: int
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Rows that have a signature and whose number is not ``gone``, and their signatures."""
    marks = sketches.binary("signature")
    here = ~np.isin(sketches.number, gone)
    signed = [place for place in np.flatnonzero(here).tolist() if marks[place] is not None]
    matrix = np.frombuffer(b"".join(marks[place] or b"" for place in signed), np.dtype("<u4"))
    return np.array(signed, dtype=np.int64), matrix.reshape(len(signed), permutations)


# --- components ---------------------------------------------------------------------------------


class ConnectCandidates(beam.PTransform):  # type: ignore[misc]
    """Edges by member into ``MEMBERSHIP`` rows by input: see ``filters.dedup.steps``.

    Components are exact whatever the number of rounds, each of which is two shuffles. With one
    partition there are none.
    """

    def __init__(self, partitions: int, rounds: int = stars.ROUNDS) -> None:
        super().__init__()
        self._partitions = partitions
        self._rounds = rounds

    def expand(self, edges: beam.PCollection) -> beam.PCollection:
        grouped = edges | "Group edges" >> beam.GroupByKey()
        if self._partitions == 1:
            found = grouped | "Components" >> by_reference(connect)
        else:
            found = self._in_rounds(grouped) | "Memberships" >> by_reference(memberships)
        return found | "Memberships by input" >> beam.GroupByKey()

    def _in_rounds(self, grouped: beam.PCollection) -> beam.PCollection:
        of = {"partitions": self._partitions}
        for number in range(1, self._rounds + 1):
            grouped = (
                grouped
                | step(f"Small star {number}", steps.small_star, **of)
                | f"Group ends {number}" >> beam.GroupByKey()
                | step(f"Large star {number}", steps.large_star, **of)
                | f"Group edges {number}" >> beam.GroupByKey()
            )
        settled = (
            grouped
            | step("Small star", steps.small_star, **of)
            | "Group ends" >> beam.GroupByKey()
            | step("Settle", steps.settle, **of)
        )
        resolved = (
            settled
            | step("Remainder", steps.aside)
            | "Group remainder" >> beam.GroupByKey()
            | step("Resolve", steps.resolve, **of)
        )
        return (
            (settled | step("Contracted", steps.ahead), resolved)
            | "Both" >> beam.Flatten()
            | "Group settled" >> beam.GroupByKey()
            | step("Join", steps.join, **of)
            | "Group components" >> beam.GroupByKey()
        )


def connect(_one: int, blobs: Iterable[bytes]) -> Iterator[Keyed]:
    """The components of all edges, back by input."""
    return _by_input_of_member(components.components(blobs))


def memberships(_place: int, blobs: Iterable[bytes]) -> Iterator[Keyed]:
    """The documents of whole components, back by input."""
    return _by_input_of_member(bands.unpack_as(components.COMPONENT, blobs))


def _by_input_of_member(nodes: NDArray[np.void]) -> Iterator[Keyed]:
    found = components.memberships(stars.references_of(nodes["ref"]), nodes["component"])
    inputs = (found["ref"] >> np.uint64(24)).astype(np.int64)
    for number, blob in bands.split(found, inputs).items():
        yield input_of_reference(number << 24), blob


# --- leaders ------------------------------------------------------------------------------------


def members(key: str, blobs: Iterable[bytes], run: Run, max_members: int) -> Iterator[Partitioned]:
    """The signature and rank of every document of an input that is in a component."""
    settings = run.recipe.stage("duplicates")
    assert settings is not None
    permutations = settings.options.permutations
    known = bands.unpack_as(components.MEMBERSHIP, blobs)
    known = known[np.argsort(known["ref"])]
    tables = (
        _members(sketches, known, permutations, max_members)
        for sketches in load_sketches(key, run, ("signature",))
    )
    for records in gathered(tables):
        places = parts.place_of(records, run.partitions * MEMBER_PARTITIONS)
        yield from bands.split(records, places).items()


def _members(
    sketches: Sketches, known: NDArray[np.void], permutations: int, max_members: int
) -> NDArray[np.void]:
    """The rows of a batch that are in ``known``, which is sorted by reference and not empty."""
    references = sketches.references
    place = np.searchsorted(known["ref"], references).clip(max=len(known) - 1)
    wanted = np.flatnonzero(known["ref"][place] == references)
    found = known[place[wanted]]
    marks = sketches.binary("signature")
    records = np.zeros(len(wanted), leaders.member_dtype(permutations))
    records["component"], records["ref"] = found["component"], found["ref"]
    records["part"], records["parts"] = parts.split_components(
        found["ref"], found["size"], max_members
    )
    records["id"] = sketches.id[wanted]
    records["source_rank"] = sketches.rank
    records["length"] = sketches.length[wanted]
    joined = b"".join(marks[row] or b"" for row in wanted.tolist())
    records["signature"] = np.frombuffer(joined, "<u4").reshape(len(wanted), permutations)
    return records


def choose_leaders(
    _place: int, blobs: Iterable[bytes], run: Run, max_members: int
) -> Iterator[Partitioned]:
    """Aside the near-duplicates of some parts; ahead the leaders to compare across parts."""
    settings = run.recipe.stage("duplicates")
    assert settings is not None
    records = bands.unpack_as(leaders.member_dtype(settings.options.permutations), blobs)
    found = leaders.leaders(records, similarity_bound(run))
    if len(found):
        yield ASIDE, found.tobytes()
    chosen = parts.leaders_to_compare(records, found, max_members)
    places = parts.place_of(chosen, run.partitions * MEMBER_PARTITIONS)
    yield from bands.split(chosen, places).items()


def near_duplicates(key: int, blob: bytes) -> Iterator[Keyed]:
    """Verdicts on the documents that a step found to be near-duplicates."""
    if key != ASIDE:
        return
    found = np.frombuffer(blob, leaders.NEAR_DUPLICATE)
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
