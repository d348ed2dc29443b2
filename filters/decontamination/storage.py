"""An index as a folder of files: written once, checked whenever it is opened."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from filters.decontamination.tables import ITEMS, Tables, item_rows

SCHEMA = 1
"""Raised when the files or the meaning of an n-gram change."""

ARRAYS = {"hashes": "<u8", "sizes": "|u1", "starts": "<i8", "owners": "<u4", "filter": "|u1"}


class IndexFormatError(ValueError):
    """The folder holds no index, a damaged one, or one of another version."""


def save_tables(tables: Tables, folder: str) -> None:
    """Write an index to a new folder; it appears when it is complete.

    Raises FileExistsError where there is something of that name.
    """
    target = Path(folder)
    if target.exists():
        raise FileExistsError(f"{folder} exists: remove it, or choose another folder")
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in ARRAYS:
        np.save(partial / f"{name}.npy", getattr(tables, name), allow_pickle=False)
    pq.write_table(tables.items, partial / "items.parquet", compression="zstd")
    header = {
        "schema": SCHEMA,
        "ngrams": len(tables.hashes),
        "items": tables.items.num_rows,
        "sha256": content_digest(tables),
    }
    (partial / "header.json").write_text(json.dumps(header, indent=1) + "\n", "utf-8")
    for path in sorted(partial.iterdir()):
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
    partial.rename(target)


def load_tables(folder: str) -> tuple[Tables, str]:
    """Open an index and its digest; arrays are memory-mapped.

    Everything is checked: types, sizes, order, ranges and the SHA-256 (half a second for a
    gigabyte). Raises IndexFormatError, which names the file and what is wrong with it.
    """
    header = _header(folder)
    arrays = {name: _array(folder, name, dtype) for name, dtype in ARRAYS.items()}
    tables = Tables(items=_items(folder), **arrays)
    problem = _problem(tables, header)
    if problem:
        raise _error(folder, problem)
    digest = content_digest(tables)
    if digest != header["sha256"]:
        raise _error(folder, f"its content has SHA-256 {digest}, not {header['sha256']}")
    return tables, digest


def content_digest(tables: Tables) -> str:
    """The SHA-256 of what an index holds, whatever wrote its files."""
    total = hashlib.sha256(f"benchmark index {SCHEMA}\n".encode())
    for name, dtype in ARRAYS.items():
        array = np.ascontiguousarray(getattr(tables, name), dtype=dtype)
        total.update(f"{name} {len(array)}\n".encode())
        total.update(array.data)
    for row in item_rows(tables.items):
        total.update(json.dumps(row).encode() + b"\n")
    return total.hexdigest()


def join_digests(digests: Sequence[str]) -> str:
    """One digest for several indexes in their order; that of a single one is its own."""
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _error(folder: str, problem: str) -> IndexFormatError:
    return IndexFormatError(
        f"{folder} is no usable benchmark index: {problem}; build it again from the items"
    )


def _header(folder: str) -> dict[str, Any]:
    try:
        header = json.loads((Path(folder) / "header.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _error(folder, f"header.json cannot be read ({error})") from None
    if not isinstance(header, dict) or header.get("schema") != SCHEMA:
        found = header.get("schema") if isinstance(header, dict) else header
        raise _error(folder, f"its schema is {found!r}, and this version reads {SCHEMA}")
    for key, kind in (("ngrams", int), ("items", int), ("sha256", str)):
        if not isinstance(header.get(key), kind):
            raise _error(folder, f"header.json has no {key!r}")
    return header


def _array(folder: str, name: str, dtype: str) -> NDArray[Any]:
    path = Path(folder) / f"{name}.npy"
    try:
        array = np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except (OSError, ValueError, EOFError) as error:
        # An array without elements cannot be memory-mapped.
        empty = _empty_array(path)
        if empty is None:
            raise _error(folder, f"{name}.npy cannot be read ({error})") from None
        array = empty
    if array.dtype != np.dtype(dtype) or array.ndim != 1:
        raise _error(
            folder, f"{name}.npy holds {array.dtype} of {array.ndim} dimensions, not {dtype} of 1"
        )
    return array


def _empty_array(path: Path) -> NDArray[Any] | None:
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if isinstance(array, np.ndarray) and not array.size else None


def _items(folder: str) -> pa.Table:
    try:
        table = pq.read_table(Path(folder) / "items.parquet", memory_map=True)
    except (OSError, pa.ArrowException) as error:
        raise _error(folder, f"items.parquet cannot be read ({error})") from None
    if not table.schema.equals(ITEMS):
        raise _error(folder, f"items.parquet has the columns {table.schema.names}")
    return table


def _problem(tables: Tables, header: dict[str, Any]) -> str | None:
    """What makes the arrays unfit for lookups, or None."""
    count, owners, starts = len(tables.hashes), tables.owners, tables.starts
    if count != header["ngrams"] or tables.items.num_rows != header["items"]:
        return "its arrays do not have the sizes its header says"
    if len(tables.sizes) != count or len(starts) != count + 1:
        return "its arrays do not fit together"
    if count and not (tables.hashes[1:] > tables.hashes[:-1]).all():
        return "hashes.npy is not in rising order"
    if starts[0] != 0 or starts[-1] != len(owners) or not (starts[1:] > starts[:-1]).all():
        return "starts.npy does not cut owners.npy into parts"
    if len(owners) and owners.max() >= tables.items.num_rows:
        return "owners.npy names items that are not there"
    if count and not 1 <= tables.sizes.min() <= tables.sizes.max() <= 64:
        return "sizes.npy holds n-grams of impossible length"
    bits = len(tables.filter)
    if bits < 128 or bits > 1 << 40 or bits & (bits - 1):
        return "filter.npy is no power of two long"
    return None
