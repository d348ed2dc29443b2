"""Where a reader of a file can begin: record starts, found without looking into the records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.sources.caps import ReadCaps
from pipelines.sources.compression import decoded_blocks, needs_dictionary
from pipelines.sources.frames import Frame, frames
from pipelines.sources.jsonl import lines_of
from pipelines.sources.window import Window

_HEAD_BYTES = 4


@dataclass(frozen=True, slots=True)
class Start:
    """The record at ``position``, counted over the file, begins at byte ``offset`` of it."""

    position: int
    offset: int


def record_starts(kind: str, stream: Any, caps: ReadCaps) -> Iterator[Start]:
    """Every place of a file where reading can begin, in order, without that at its very start.

    ``stream`` is the raw file, which can ``peek``, and for Parquet ``seek``. A file that must be
    read from its start gives nothing. From a start, a reader meets just the records that one who
    began at the file's start would meet there, damage or not: a test holds it to that.
    """
    if kind == "parquet":
        return _row_groups(stream)
    if kind == "jsonl":
        return _lines(stream, caps)
    return _members(stream, caps)


def _members(stream: Any, caps: ReadCaps) -> Iterator[Start]:
    if needs_dictionary(stream.peek(_HEAD_BYTES)):
        return
    for position, frame in enumerate(frames(Window(decoded_blocks(stream)), caps)):
        if isinstance(frame, Frame) and frame.starts and position:
            yield Start(position, frame.offset)


def _lines(stream: Any, caps: ReadCaps) -> Iterator[Start]:
    for position, (offset, _) in enumerate(lines_of(stream, caps.max_line_bytes)):
        if offset < 0:
            return
        if position:
            yield Start(position, offset)


def _row_groups(stream: Any) -> Iterator[Start]:
    """Row groups stand where their rows do; the offset serves to weigh them only."""
    try:
        metadata = pq.ParquetFile(stream).metadata
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    except (pa.ArrowException, OSError, ValueError):
        return
    position = offset = 0
    for group in groups:
        if position:
            yield Start(position, offset)
        position += group.num_rows
        offset += sum(group.column(c).total_compressed_size for c in range(group.num_columns))
