"""Parquet files: one row, one document; only the columns that are named are read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from filters.document import DeadLetter, Document
from pipelines.sources.caps import Input
from pipelines.sources.rows import FIELD_OPTIONS, row_document, wanted_fields

OPTIONS = FIELD_OPTIONS | {"robots_agents"}

BATCH_ROWS = 256
"""Rows decoded at once: pages of some hundred kB must fit beside each other."""

_COPY_BYTES = 1 << 20
_ERRORS = (pa.ArrowException, OSError, ValueError, KeyError, MemoryError)


def read_parquet(stream: BinaryIO, given: Input) -> Iterator[Document | DeadLetter]:
    """One item for each row; options as for JSONL.

    A file that is not readable is one dead letter, and so is each row group that is damaged: the
    rows after it keep their positions. A part of a file is some of its row groups. A stream that
    cannot seek is copied to a temporary file.
    """
    if stream.seekable():
        yield from _rows(stream, given)
        return
    with tempfile.TemporaryFile() as copy:
        while piece := stream.read(_COPY_BYTES):
            copy.write(piece)
        copy.seek(0)
        yield from _rows(copy, given)


def _rows(stream: Any, given: Input) -> Iterator[Document | DeadLetter]:
    try:
        file = pq.ParquetFile(stream)
        names = set(file.schema_arrow.names)
        groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    except _ERRORS as error:
        yield given.dead(0, "BadParquet", f"not readable as Parquet ({type(error).__name__})")
        return
    fields = wanted_fields(given.options)
    needed = fields.get("html_field") or fields["text_field"]
    if needed not in names:
        yield given.dead(
            0, "MissingColumn", f"no column {needed!r} among {', '.join(sorted(names))[:200]}"
        )
        return
    columns = sorted(names.intersection(fields.values()))
    first = 0
    for group, rows in enumerate(groups):
        if first >= given.first and (given.end < 0 or first < given.end):
            batches = file.iter_batches(BATCH_ROWS, [group], columns, use_threads=False)
            yield from _row_group(batches, range(first, first + rows), given)
        first += rows


def _row_group(
    batches: Iterator[Any], positions: range, given: Input
) -> Iterator[Document | DeadLetter]:
    position = positions.start
    while True:
        try:
            batch = next(batches, None)
        except _ERRORS as error:
            yield given.dead(
                position,
                "BadRowGroup",
                f"rows {position} to {positions.stop - 1} are not readable "
                f"({type(error).__name__})",
            )
            return
        if batch is None:
            return
        for index in range(batch.num_rows):
            if given.accept(given.identify(position)):
                yield _document(batch, index, position, given)
            position += 1


def _document(batch: Any, index: int, position: int, given: Input) -> Document | DeadLetter:
    where = f"row {position}"
    try:
        row = {name: batch.column(name)[index].as_py() for name in batch.schema.names}
    except (UnicodeDecodeError, *_ERRORS) as error:
        return given.dead(position, "BadRow", f"{where}: not readable ({type(error).__name__})")
    return row_document(row, position, given, where)
