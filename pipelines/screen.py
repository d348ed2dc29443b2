"""Screen: read, measure and decide, with a named step of the graph for each stage.

    inputs -> read -> [stage] -> ... -> write batch -> seal input

What leaves is one ``(input key, no verdicts yet)`` pair an input. Texts and signals go to the
work directory in batches with deterministic names, and with them a *sketch* of each document
still kept: content hash, MinHash signature, benchmark n-grams. Global stages see sketches only.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Iterator
from functools import partial

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from filters.batch import Batch, apply
from filters.rules import decide, removed_by
from filters.stages import EXTRACT
from pipelines import files, progress, tables
from pipelines.inputs import Input
from pipelines.read import read_batches
from pipelines.run import Run, batch_file, build_stage, done_file
from pipelines.sketch import sketch_table

Keyed = tuple[str, bytes]


@beam.typehints.with_input_types(str)
@beam.typehints.with_output_types(Keyed)
class ScreenInputs(beam.PTransform):  # type: ignore[misc]
    """Read, measure and screen every input of a collection of ``Input`` in JSON.

    Yields ``(key, b"")`` for each input once its batches are all stored.
    """

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def expand(self, inputs: beam.PCollection) -> beam.PCollection:
        run = self._run
        batches = inputs | "Read records" >> beam.FlatMap(read_with_input, run)
        for name in _stage_names(run):
            batches = batches | f"Stage {name}" >> beam.Map(run_stage, name, run)
        return (
            batches
            | "Write batch" >> beam.Map(write_batch, run)
            | "Group by input" >> beam.GroupByKey()
            | "Seal input" >> beam.MapTuple(partial(seal_input, run=run))
        )


def _stage_names(run: Run) -> list[str]:
    """Every measuring stage that any source passes, in the registry's order."""
    names: dict[str, int] = {}
    for source in run.recipe.sources:
        for stage in run.measuring(source.name):
            names[stage.name] = stage.spec.phase
    order = [stage.name for source in run.recipe.sources for stage in run.measuring(source.name)]
    return sorted(names, key=lambda name: (names[name], order.index(name)))


Carried = tuple[str, Batch]
"""An input in JSON beside one of its batches; it never crosses a shuffle."""


def read_with_input(text: str, run: Run) -> Iterator[Carried]:
    """The batches of an input, each beside the input's description."""
    item = Input.from_json(text)
    files.write_bytes(run.input_file(item.key), text.encode())
    started = time.perf_counter()
    for batch in read_batches(text, run):
        batch.seconds["read"] = time.perf_counter() - started
        yield text, batch
        started = time.perf_counter()


def run_stage(carried: Carried, name: str, run: Run) -> Carried:
    """One stage over one batch; rules of stages before extraction take effect at once."""
    text, batch = carried
    if batch.sealed:
        return carried
    item = Input.from_json(text)
    settings = next((s for s in run.measuring(item.source) if s.name == name), None)
    if settings is None:
        return carried
    apply(batch, name, build_stage(settings), run.recipe.caps.seconds)
    if settings.spec.phase < EXTRACT and settings.rules:
        for document in list(batch.active()):
            gone = removed_by(decide(document, settings.rules))
            if gone is not None:
                batch.rejected[document.id] = gone.rule
                document.html = ""
    return text, batch


def write_batch(carried: Carried, run: Run) -> tuple[str, int]:
    """Store a measured batch; gives the input's description and the batch's number."""
    text, batch = carried
    if batch.sealed:
        return text, batch.number
    item = Input.from_json(text)
    signals = run.signals(item.source, measured=True)
    table = tables.measured_table(batch.documents, batch.letters, batch.edits, signals)
    table = table.replace_schema_metadata(
        {"first": str(batch.first), "end": str(batch.end), "last": str(int(batch.last))}
    )
    folder = run.measured_folder(item)
    files.write_bytes(batch_file(folder, batch.number), tables.to_bytes(table))
    started = time.perf_counter()
    kept = write_sketch(batch, item, run)
    batch.seconds["sketch"] = time.perf_counter() - started
    progress.batch_done(item.key, len(batch.documents), kept, batch.offset, batch.seconds)
    return text, batch.number


def seal_input(text: str, _numbers: Iterable[int], run: Run) -> Keyed:
    """Mark an input's measured batches complete, then screen those not yet screened."""
    item = Input.from_json(text)
    folder = run.measured_folder(item)
    if not files.exists(done_file(folder)):
        facts = files.read_json(files.join(folder, "read.json"))
        count = _count_batches(folder)
        files.write_json(done_file(folder), {**facts, "batches": count, "updated": item.updated})
    screen_input(item, run)
    progress.tell("sealed", input=item.key)
    return item.key, b""


def _count_batches(folder: str) -> int:
    """The number of batches of an input whose last one is there.

    Raises:
      RuntimeError: a batch in between is missing, or the last.
    """
    number = 0
    last = False
    while files.exists(path := batch_file(folder, number)):
        with files.open_raw(path) as handle:
            last = pq.read_metadata(io.BytesIO(handle.read())).metadata[b"last"] == b"1"
        number += 1
        if last:
            return number
    raise RuntimeError(f"{folder}: batch {number} is missing")


def screen_input(item: Input, run: Run) -> None:
    """Screen the measured batches of an input that have no sketches under the present rules."""
    folder = run.screened_folder(item)
    if files.exists(done_file(folder)):
        return
    count = files.read_json(done_file(run.measured_folder(item)))["batches"]
    for number in range(count):
        if not files.exists(batch_file(folder, number)):
            started = time.perf_counter()
            write_sketch(load_batch(item, number, run), item, run)
            progress.seconds("sketch", time.perf_counter() - started)
    files.write_json(done_file(folder), {"batches": count})


def write_sketch(batch: Batch, item: Input, run: Run) -> int:
    """Decide on the documents of a batch and store the sketches of those kept; how many."""
    path = batch_file(run.screened_folder(item), batch.number)
    table = sketch_table(batch, item, run)
    files.write_bytes(path, tables.to_bytes(table))
    return int(table.num_rows)


def load_batch(item: Input, number: int, run: Run) -> Batch:
    """A measured batch back from its file, as the stages left it."""
    with files.open_raw(batch_file(run.measured_folder(item), number)) as handle:
        table: pa.Table = tables.from_bytes(handle.read())
    facts = table.schema.metadata
    signals = run.signals(item.source, measured=True)
    documents, letters, edits = tables.read_measured(table, signals)
    return Batch(
        input=item.key,
        number=number,
        first=int(facts[b"first"]),
        end=int(facts[b"end"]),
        documents=documents,
        letters=letters,
        edits=edits,
        dead={letter.record for letter in letters},
        last=facts[b"last"] == b"1",
    )
