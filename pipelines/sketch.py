"""Sketches: what global stages need of a document, taken while its text is at hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from filters.batch import Batch
from filters.decontamination.index import BenchmarkIndex
from filters.dedup.signatures import SignatureParams, content_hash, signature
from filters.document import Document
from filters.rules import removed_by
from pipelines import files, tables
from pipelines.decide import local_decisions
from pipelines.inputs import Input
from pipelines.run import Run, batch_file, done_file

SKETCHES = pa.schema(
    [
        ("number", pa.uint32()),
        ("id", pa.binary(16)),
        ("length", pa.uint32()),
        ("content", pa.binary(16)),
        ("signature", pa.binary()),
        ("ngrams", pa.binary()),
    ]
)


def sketch_table(batch: Batch, item: Input, run: Run) -> pa.Table:
    """One row for each document of a batch that local rules keep.

    ``number`` is the record's number within the input as document references have it. A document
    too short for a signature has none; ``ngrams`` holds the sorted hashes of benchmark n-grams.
    """
    stages = [run.local(stage) for stage in run.measuring(item.source)]
    global_stages = {stage.name: stage for stage in run.finishing(item.source)}
    duplicates = global_stages.get("duplicates")
    contamination = global_stages.get("decontamination")
    params = duplicates.options.signature() if duplicates else None
    index = run.index(contamination) if contamination else None
    rows = [
        _sketch(document, batch.first + place, params, index)
        for place, document in enumerate(batch.documents)
        if document.id not in batch.dead and removed_by(local_decisions(document, stages)) is None
    ]
    return tables.rows_table(rows, SKETCHES)


def _sketch(
    document: Document, number: int, params: SignatureParams | None, index: BenchmarkIndex | None
) -> dict[str, Any]:
    mark = signature(document.text, params) if params else None
    hits = index.hashes(document.text) if index else None
    return {
        "number": number,
        "id": bytes.fromhex(document.id),
        "length": len(document.text),
        "content": content_hash(document.text) if params else None,
        "signature": None if mark is None else mark.tobytes(),
        "ngrams": None if hits is None or not len(hits) else hits.tobytes(),
    }


@dataclass(frozen=True)
class Sketches:
    """The sketches of one input as arrays, row for row.

    ``signatures`` has a row of zeros where ``signed`` is false.
    """

    key: str
    rank: int
    number: NDArray[np.uint32]
    id: NDArray[np.void]
    length: NDArray[np.uint32]
    table: pa.Table

    @property
    def references(self) -> NDArray[np.uint64]:
        """Document references: 40 bits of input, 24 bits of record."""
        return np.uint64(int(self.key, 16) << 24) | self.number.astype(np.uint64)

    def binary(self, column: str) -> list[bytes | None]:
        """A column of bytes."""
        values: list[bytes | None] = self.table.column(column).to_pylist()
        return values


def load_sketches(key: str, run: Run, columns: tuple[str, ...] = ()) -> Iterator[Sketches]:
    """The sketches of an input, batch by batch, with the named columns of bytes."""
    item = load_input(run.input_file(key))
    folder = run.screened_folder(item)
    rank = run.source_rank(item.source)
    for number in range(files.read_json(done_file(folder))["batches"]):
        content = files.read_bytes(batch_file(folder, number))
        table = tables.from_bytes(content, ["number", "id", "length", *columns])
        if not table.num_rows:
            continue
        identifiers = b"".join(table.column("id").to_pylist())
        yield Sketches(
            key=key,
            rank=rank,
            number=table.column("number").to_numpy(),
            id=np.frombuffer(identifiers, dtype="V16"),
            length=table.column("length").to_numpy(),
            table=table,
        )


def load_input(path: str) -> Input:
    """An input's description, as the first phase left it."""
    return Input.from_json(files.read_bytes(path).decode())
