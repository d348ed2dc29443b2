"""Screen: read, measure and decide, with a named step of the graph for each stage.

    inputs -> split -> read -> [stage] -> ... -> write batch -> seal input

What leaves is one ``(input key, no verdicts yet)`` pair an input, and one a part of a large file.
Texts and signals go to the work directory in batches with deterministic names, and with them a
*sketch* of each document still kept: content hash, MinHash signature, benchmark n-grams. Global
stages see sketches only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from functools import partial

import apache_beam as beam
import pyarrow as pa

from filters.batch import Batch, apply
from filters.rules import decide, removed_by
from filters.stages import EXTRACT
from pipelines import attempts, files, guard, metrics, progress, tables, timing
from pipelines.composite import Composite
from pipelines.inputs import Input
from pipelines.parts import split_input
from pipelines.read import read_batches
from pipelines.recipe import StageSettings
from pipelines.run import Run, batch_file, build_stage, done_file
from pipelines.sketch import sketch_table

Keyed = tuple[str, bytes]


class SplitInputs(Composite):
    """Cut large files in parts, and share all inputs out to the workers anew.

    Takes and gives ``Input`` in JSON. Without the exchange behind it, a worker would keep all
    parts of the files that it looked into.
    """

    def expand(self, inputs: beam.PCollection) -> beam.PCollection:
        return (
            inputs
            | "Split inputs" >> beam.FlatMap(split_to_json, self._run).with_output_types(str)
            | "Share out" >> beam.Reshuffle()
        )


def split_to_json(text: str, run: Run) -> list[str]:
    """The parts of an input, all in JSON."""
    return [part.to_json() for part in split_input(Input.from_json(text), run)]


@beam.typehints.with_input_types(str)
@beam.typehints.with_output_types(Keyed)
class ScreenInputs(Composite):
    """Read, measure and screen every input of a collection of ``Input`` in JSON.

    Yields ``(key, b"")`` for each input once its batches are all stored.
    """

    def expand(self, inputs: beam.PCollection) -> beam.PCollection:
        run = self._run
        batches = inputs | "Read records" >> beam.FlatMap(read_with_input, run)
        for name in _stage_names(run):
            batches = batches | f"Stage {name}" >> beam.Map(run_stage, name, run)
        return (
            batches
            | "Write batch" >> beam.Map(write_batch, run).with_output_types(tuple[str, int])
            | "Group by input" >> beam.GroupByKey()
            | "Seal input" >> beam.MapTuple(partial(seal_input, run=run)).with_output_types(Keyed)
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
    guard.prepare(run)
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
    source = Input.from_json(text).source
    settings = next((s for s in run.measuring(source) if s.name == name), None)
    if settings is not None:
        measure_stage(batch, settings, run)
    return carried


def measure_stage(batch: Batch, stage: StageSettings, run: Run) -> None:
    """Measure one stage on the active documents of a batch."""
    apply(batch, stage.name, build_stage(run.local(stage)), run.recipe.caps.seconds)
    if stage.spec.phase >= EXTRACT or not stage.rules:
        return
    for document in list(batch.active()):
        gone = removed_by(decide(document, stage.rules))
        if gone is not None:
            batch.rejected[document.id] = gone.rule
            document.html = ""


def write_batch(carried: Carried, run: Run) -> tuple[str, int]:
    """Store a measured batch; gives the input's description and the batch's number."""
    text, batch = carried
    if batch.sealed:
        return text, batch.number
    item = Input.from_json(text)
    signals = run.signals(item.source, measured=True)
    folder = run.measured_folder(item)
    started = time.perf_counter()
    kept = write_sketch(batch, item, run)
    batch.seconds["sketch"] = time.perf_counter() - started
    table = tables.measured_table(batch.documents, batch.letters, batch.edits, signals)
    table = table.replace_schema_metadata(
        {
            "first": str(batch.first),
            "end": str(batch.end),
            "last": str(int(batch.last)),
            "seconds": json.dumps({timing.worker_name(): batch.seconds}),
        }
    )
    files.write_bytes(batch_file(folder, batch.number), tables.to_bytes(table))
    metrics.batch(batch, kept)
    progress.batch_done(item.key, len(batch.documents), kept, batch.offset)
    return text, batch.number


def seal_input(text: str, numbers: Iterable[int], run: Run) -> Keyed:
    """Mark an input's measured batches complete, then screen those not yet screened."""
    item = Input.from_json(text)
    folder = run.measured_folder(item)
    if not files.exists(done_file(folder)):
        facts = files.read_json(files.join(folder, "read.json"))
        count = _check_batches(folder, max(numbers) + 1)
        files.write_json(done_file(folder), {**facts, "batches": count, "updated": item.updated})
    attempts.forget(run.reading_notes(item))
    screen_input(item, run)
    progress.tell("sealed", input=item.key)
    return item.key, b""


def _check_batches(folder: str, count: int) -> int:
    """The number of batches of an input, all of them there.

    Raises:
      RuntimeError: a batch is missing.
    """
    if count < 1:
        raise RuntimeError(f"{folder}: the input was changed while it was read; run again")
    found = {path.rpartition("/")[2] for path, _, _ in files.listing(f"{folder}/*.parquet")}
    for number in range(count):
        if batch_file("", number).rpartition("/")[2] not in found:
            raise RuntimeError(f"{folder}: batch {number} is missing")
    return count


def screen_input(item: Input, run: Run) -> None:
    """Screen the measured batches of an input that have no sketches under the present rules."""
    folder = run.screened_folder(item)
    if files.exists(done_file(folder)):
        return
    count = files.read_json(done_file(run.measured_folder(item)))["batches"]
    for number in range(count):
        if not files.exists(batch_file(folder, number)):
            write_sketch(load_batch(item, number, run), item, run)
    files.write_json(done_file(folder), {"batches": count})


def write_sketch(batch: Batch, item: Input, run: Run) -> int:
    """Decide on the documents of a batch and store the sketches of those kept; how many."""
    path = batch_file(run.screened_folder(item), batch.number)
    table = sketch_table(batch, item, run)
    files.write_bytes(path, tables.to_bytes(table))
    return int(table.num_rows)


def stored_batches(item: Input, run: Run) -> Iterator[Batch]:
    """The measured batches of an input, in order, as the stages left them."""
    for number in range(files.read_json(done_file(run.measured_folder(item)))["batches"]):
        yield load_batch(item, number, run)


def load_batch(item: Input, number: int, run: Run) -> Batch:
    """A measured batch back from its file; ``seconds`` is by worker and stage."""
    table: pa.Table = tables.from_bytes(
        files.read_bytes(batch_file(run.measured_folder(item), number))
    )
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
        spent=json.loads(facts[b"seconds"]),
    )
