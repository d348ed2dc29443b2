"""A curated corpus as later steps read it: its tables, cut in units of even size.

A *unit* is a range of row groups of one table, so that a large table is shared by workers. Its key
follows from the table's name and the range, and the tables follow from the inputs: the same corpus
has the same units on any machine.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import files
from pipelines.conclude import manifest_file
from pipelines.inputs_error import InputError

UNIT_BYTES = 32 << 20
"""Of text as it lies in memory. A row group is never cut; curated tables have small ones."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """One Parquet table of a corpus: ``name`` is its file's without the ending, and ``folder``
    is ``documents`` or ``rejected``."""

    folder: str
    name: str
    source: str
    path: str
    size: int
    sha256: str
    rows: int = 0

    @property
    def key(self) -> str:
        """What it is listed by."""
        return f"{self.folder}/{self.name}"

    def to_json(self) -> str:
        """The form in which a table travels through the graph."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Table:
        """The inverse of ``to_json``."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Unit:
    """Row groups ``first`` to ``end`` (not included) of a table. ``size`` is bytes of text."""

    key: str
    folder: str
    source: str
    path: str
    first: int
    end: int
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """What to call it."""
        return self.key

    @property
    def place(self) -> str:
        """Where it lies, for a message."""
        return f"{self.path} (row groups {self.first} to {self.end - 1})"

    def to_json(self) -> str:
        """The form in which a unit travels through the graph."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Unit:
        """The inverse of ``to_json``."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Corpus:
    """A finished run: its folder and the tables that its manifest vouches for."""

    output: str
    documents: tuple[Table, ...]
    rejected: tuple[Table, ...]

    @classmethod
    def open(cls, output: str) -> Corpus:
        """Find the corpus that ``cidermill curate`` wrote.

        Raises:
          InputError: the folder holds no finished run, or a table is not as it was written.
        """
        try:
            manifest = files.read_json(manifest_file(output))
            entries = manifest["inputs"]
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            raise InputError(
                f"{output} holds no finished run; give the folder that `cidermill curate` wrote"
            ) from None
        documents, rejected = (_tables(output, f, entries) for f in ("documents", "rejected"))
        found = cls(output, documents, rejected)
        if not found.documents:
            raise InputError(f"the corpus in {output} has no document; nothing was kept")
        found._check_sizes()
        return found

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the sources that have a table of documents, sorted."""
        return tuple(sorted({table.source for table in self.documents}))

    @property
    def digest(self) -> str:
        """The SHA-256 over names and digests of all tables of documents."""
        rows = sorted(f"{table.name} {table.sha256}\n" for table in self.documents)
        return hashlib.sha256("".join(rows).encode()).hexdigest()

    def _check_sizes(self) -> None:
        for folder, tables in (("documents", self.documents), ("rejected", self.rejected)):
            pattern = files.join(self.output, folder, "*.parquet")
            sizes = {os.path.basename(path): size for path, size, _ in files.listing(pattern)}
            for table in tables:
                size = sizes.get(os.path.basename(table.path))
                if size != table.size:
                    raise InputError(
                        f"{table.path} has {'no' if size is None else size} bytes, but its "
                        f"manifest says {table.size}; run the same `cidermill curate` again"
                    )


def _tables(output: str, folder: str, entries: Sequence[Mapping[str, Any]]) -> tuple[Table, ...]:
    """The tables of one kind that hold any row, in order of name."""
    found = []
    for entry in entries:
        facts = entry["files"].get(folder)
        if facts is None or not facts["rows"]:
            continue
        name = f"{entry['source']}-{entry['key']}"
        path = files.absolute(files.join(output, folder, f"{name}.parquet"))
        found.append(
            Table(folder, name, entry["source"], path, facts["bytes"], facts["sha256"],
                  facts["rows"])
        )  # fmt: skip
    return tuple(sorted(found, key=lambda table: table.name))


def cut(table: Table, unit_bytes: int = UNIT_BYTES) -> Iterator[Unit]:
    """The units of a table, in order; together they are all its row groups.

    Raises:
      InputError: the table cannot be read.
    """
    with _opened(table.path) as file:
        sizes = [_text_bytes(file.metadata.row_group(n)) for n in range(file.num_row_groups)]
    first = size = 0
    for number, own in enumerate(sizes):
        if number > first and size + own > unit_bytes:
            yield _unit(table, first, number, size)
            first, size = number, 0
        size += own
    yield _unit(table, first, len(sizes), size)


def _text_bytes(group: pq.RowGroupMetaData) -> int:
    columns = (group.column(number) for number in range(group.num_columns))
    return sum(c.total_uncompressed_size for c in columns if c.path_in_schema == "text")


def _unit(table: Table, first: int, end: int, size: int) -> Unit:
    key = f"{table.name}-{first:06d}"
    return Unit(key, table.folder, table.source, table.path, first, end, size, table.sha256)


def read(unit: Unit, columns: Sequence[str]) -> pa.Table:
    """Some columns of a unit's rows."""
    return read_groups(unit, range(unit.first, unit.end), columns)


def read_groups(unit: Unit, groups: Iterable[int], columns: Sequence[str]) -> pa.Table:
    """Some columns of some row groups of a unit's table."""
    with _opened(unit.path) as file:
        return file.read_row_groups(list(groups), columns=list(columns), use_threads=False)


class _opened:
    """A Parquet file on any file system, closed with the block."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> pq.ParquetFile:
        try:
            self._handle = files.open_raw(self._path)
            self._file = pq.ParquetFile(pa.PythonFile(self._handle, mode="r"))
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"cannot read {self._path}: {error}") from None
        return self._file

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._handle.close()
