"""Texts of JSONL and Parquet files on this machine, one after the other."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator, Sequence
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

MAX_LINE_BYTES = 256 << 20
ROWS = 256


class TextFileError(ValueError):
    """A file that holds no texts as they were asked for; the message names file and line."""


Row = tuple[str, dict[str, Any]]
"""A text, and what is known of it besides."""


def read_texts(path: str, field: str, skip: int = 0) -> Iterator[str]:
    """The texts of a file, as ``read_rows``."""
    for text, _ in read_rows(path, field, skip=skip):
        yield text


def read_rows(path: str, field: str, *, beside: Sequence[str] = (), skip: int = 0) -> Iterator[Row]:
    """The texts of a file from row ``skip`` on; a row without a text gives an empty one.

    Parquet by the ending ``.parquet``; else JSONL, plain or ``.gz`` or ``.zst``.

    Args:
      beside: other fields, given with a text as far as its row has them.

    Raises:
      TextFileError: the file cannot be read, a line is no object or too long, or there is no such
        field.
    """
    try:
        if path.endswith(".parquet"):
            yield from _parquet(path, field, beside, skip)
        else:
            yield from _jsonl(path, field, beside, skip)
    except (OSError, EOFError, pa.ArrowException, zstandard.ZstdError) as error:
        raise TextFileError(f"{path}: {str(error).splitlines()[0]}") from None


def read_whole(path: str) -> str:
    """A file as one text: UTF-8, plain or ``.gz`` or ``.zst``.

    Raises:
      TextFileError: the file cannot be read, is too long, or is no UTF-8.
    """
    try:
        with _opened(path) as handle:
            content = handle.read(MAX_LINE_BYTES + 1)
        if len(content) > MAX_LINE_BYTES:
            raise TextFileError(f"{path}: longer than {MAX_LINE_BYTES} bytes; cut it, or use JSONL")
        return content.decode()
    except UnicodeDecodeError as error:
        raise TextFileError(f"{path}: no UTF-8 at byte {error.start}") from None
    except (OSError, EOFError, zstandard.ZstdError) as error:
        raise TextFileError(f"{path}: {str(error).splitlines()[0]}") from None


def _parquet(path: str, field: str, beside: Sequence[str], skip: int) -> Iterator[Row]:
    with pq.ParquetFile(path) as file:
        if field not in file.schema_arrow.names:
            names = ", ".join(file.schema_arrow.names)
            raise TextFileError(f"{path}: no column {field!r}, but {names}")
        others = [name for name in beside if name in file.schema_arrow.names]
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if skip >= rows:
                skip -= rows
                continue
            for batch in file.iter_batches(ROWS, row_groups=[group], columns=[field, *others]):
                for row in batch.slice(skip).to_pylist():
                    yield _checked(row[field], path, field), {n: row[n] for n in others}
                skip = max(0, skip - len(batch))


def _jsonl(path: str, field: str, beside: Sequence[str], skip: int) -> Iterator[Row]:
    with _opened(path) as handle:
        number = 0
        while line := handle.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise TextFileError(f"{path}:{number}: longer than {MAX_LINE_BYTES} bytes")
            if number <= skip:
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                raise TextFileError(f"{path}:{number}: no JSON") from None
            if not isinstance(row, dict) or field not in row:
                raise TextFileError(f"{path}:{number}: no object with the field {field!r}")
            others = {name: row[name] for name in beside if name in row}
            yield _checked(row[field], f"{path}:{number}", field), others


def _checked(text: Any, place: str, field: str) -> str:
    if text is None:
        return ""
    if not isinstance(text, str):
        raise TextFileError(f"{place}: {field!r} is {type(text).__name__} and no text")
    return text


def _opened(path: str) -> IO[bytes]:
    if path.endswith(".gz"):
        return cast(IO[bytes], gzip.open(path, "rb"))
    if path.endswith(".zst"):
        # The reader closes the file with itself.
        file = open(path, "rb")  # noqa: SIM115
        raw = zstandard.ZstdDecompressor().stream_reader(file, closefd=True)
        return cast(IO[bytes], io.BufferedReader(raw))
    return open(path, "rb")
