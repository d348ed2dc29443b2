"""How the numbers of a matrix lie in a file: in the order in which the kernels read them.

Sixteen rows, which share a table, are a group; 32 columns are a step. Of a group each step holds
eight vectors of 64 bytes: vector ``v`` has, for each row in turn, the columns ``4v`` to ``4v + 3``.
A kernel multiplies such a vector with four activations at a time and has the sums of 16 rows side
by side. Codes are packed where eight vectors take fewer bits, 64 lanes of a byte each:

* 4 bits: byte ``b`` of four has vector ``2b`` in its low half and ``2b + 1`` in its high half.
* 3 bits: of three bytes each has vector ``2u`` in its bits 0-2 and ``2u + 1`` in its bits 3-5, with
  ``u`` the number of the byte; the bits 6-7 of the three, the first lowest, are vectors 6 and 7.
* 2 bits: byte ``b`` of two has vectors ``4b`` to ``4b + 3``, the first lowest.
* 8 bits: a byte a weight, signed.

Entries of a table are whole numbers from 0 to 127, which products of both signed and unsigned
bytes take; each group has a scale and an offset: a weight is ``scale * entry + offset``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.palette import Palette, RowInt8
from runtime.shape import COLUMNS, ROWS

TOP = 127
"""The greatest entry of a table."""
VECTORS = 8
"""Vectors of a step."""
LANES = 64
"""Bytes of a vector: 16 rows of 4 columns."""
ALIGNMENT = 64

U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Packed:
    """A matrix (rows, columns) as the kernels take it.

    Args:
      bits: of a code: 2, 3, 4, or 8.
      codes: in the order of the module's description; rows are filled up to a multiple of 16.
      tables: (groups, 2**bits) entries; (0, 0) for 8 bits.
      affine: (groups, 2) scale and offset of each group; for 8 bits the scales of all rows.
    """

    rows: int
    columns: int
    bits: int
    codes: U8
    tables: U8
    affine: NDArray[np.float32]


def padded(rows: int) -> int:
    """Rows with those that fill the last group."""
    return -(-rows // ROWS) * ROWS


def sizes(rows: int, columns: int, bits: int) -> tuple[int, int, int]:
    """Bytes of codes, tables and affine numbers, without what aligns them."""
    rows = padded(rows)
    codes = rows * columns * bits // 8
    if bits == 8:
        return codes, 0, rows * 4
    return codes, rows // ROWS << bits, rows // ROWS * 8


def snap(palette: Palette) -> tuple[U8, NDArray[np.float32]]:
    """Tables as whole numbers from 0 to 127 with a scale and an offset, the nearest there are."""
    low, high = palette.tables.min(1), palette.tables.max(1)
    scale = ((high - low) / np.float32(TOP)).astype(np.float32)
    divisor = np.where(scale > 0, scale, np.float32(1))
    entries = np.rint((palette.tables - low[:, None]) / divisor[:, None])
    return np.clip(entries, 0, TOP).astype(np.uint8), np.stack([scale, low], 1).astype(np.float32)


def snapped(palette: Palette) -> Palette:
    """The palette as a file holds it: what a model of that file computes with."""
    entries, affine = snap(palette)
    tables = entries.astype(np.float32) * affine[:, :1] + affine[:, 1:]
    return Palette(palette.indices, tables, palette.bits)


def pack(matrix: Palette | RowInt8) -> Packed:
    """Bring a matrix in the order of the kernels. Dimensions must be those of ``runtime.shape``."""
    if isinstance(matrix, RowInt8):
        rows, columns = matrix.values.shape
        more = padded(rows) - rows
        values = np.pad(matrix.values, ((0, more), (0, 0)))
        scales = np.pad(matrix.scales, (0, more))
        codes = _to_vectors(values.view(np.uint8)).reshape(-1)
        return Packed(rows, columns, 8, codes, np.zeros((0, 0), np.uint8), scales)
    rows, columns = matrix.indices.shape
    entries, affine = snap(matrix)
    codes = _join(_to_vectors(matrix.indices), matrix.bits).reshape(-1)
    return Packed(rows, columns, matrix.bits, codes, entries, affine)


def unpack(packed: Packed) -> Palette | RowInt8:
    """The inverse of ``pack``, up to the rounding of tables."""
    rows, columns = padded(packed.rows), packed.columns
    shape = (rows // ROWS, columns // COLUMNS, -1, LANES)
    if packed.bits == 8:
        values = _from_vectors(packed.codes.reshape(shape)).view(np.int8)
        return RowInt8(values[: packed.rows].copy(), packed.affine[: packed.rows].copy())
    indices = _from_vectors(_split(packed.codes.reshape(shape), packed.bits))
    scale, offset = packed.affine[:, :1], packed.affine[:, 1:]
    tables = packed.tables.astype(np.float32) * scale + offset
    return Palette(indices, tables, packed.bits)


def row(packed: Packed, number: int) -> NDArray[np.float32]:
    """One row of an 8-bit matrix, (columns,)."""
    group, lane = divmod(number, ROWS)
    vectors = packed.codes.reshape(-1, packed.columns // 4, ROWS, 4)[group, :, lane]
    found: NDArray[np.float32] = vectors.reshape(-1).view(np.int8) * packed.affine[number]
    return found


def integers(packed: Packed) -> NDArray[np.int8]:
    """The whole number that stands for each weight in the kernels, (padded rows, columns)."""
    found = unpack(packed)
    if isinstance(found, RowInt8):
        return np.pad(found.values, ((0, padded(packed.rows) - packed.rows), (0, 0)))
    grouped = found.indices.reshape(len(packed.tables), -1)
    values = np.take_along_axis(packed.tables, grouped, axis=1)
    return values.reshape(found.indices.shape).view(np.int8)


def _to_vectors(codes: U8) -> U8:
    """(rows, columns) to (groups, steps, vectors, lanes)."""
    rows, columns = codes.shape
    fours = np.ascontiguousarray(codes).view(np.uint32)  # four columns of a row stay together
    split = fours.reshape(rows // ROWS, ROWS, columns // COLUMNS, VECTORS).transpose(0, 2, 3, 1)
    found = np.ascontiguousarray(split).view(np.uint8)
    return found.reshape(rows // ROWS, columns // COLUMNS, VECTORS, LANES)


def _from_vectors(vectors: U8) -> U8:
    groups, steps = vectors.shape[:2]
    split = vectors.reshape(groups, steps, VECTORS, ROWS, 4).transpose(0, 3, 1, 2, 4)
    return split.reshape(groups * ROWS, steps * COLUMNS)


def _join(vectors: U8, bits: int) -> U8:
    """Eight vectors of codes to ``bits`` vectors of bytes."""
    v = [vectors[:, :, number] for number in range(VECTORS)]
    if bits == 4:
        found = [v[2 * b] | v[2 * b + 1] << 4 for b in range(4)]
    elif bits == 3:
        rest = v[6] | v[7] << 3
        found = [v[2 * u] | v[2 * u + 1] << 3 | (rest >> 2 * u & 3) << 6 for u in range(3)]
    else:
        found = [v[b] | v[b + 1] << 2 | v[b + 2] << 4 | v[b + 3] << 6 for b in (0, 4)]
    return np.stack(found, 2).astype(np.uint8)


def _split(packed: U8, bits: int) -> U8:
    """The inverse of ``_join``."""
    byte = [packed[:, :, number] for number in range(bits)]
    if bits == 4:
        found = [byte[v // 2] >> 4 * (v % 2) & 15 for v in range(VECTORS)]
    elif bits == 3:
        rest = byte[0] >> 6 | byte[1] >> 6 << 2 | byte[2] >> 6 << 4
        found = [(*byte, rest)[v // 2] >> 3 * (v % 2) & 7 for v in range(VECTORS)]
    else:
        found = [byte[v // 4] >> 2 * (v % 4) & 3 for v in range(VECTORS)]
    return np.stack(found, 2)
