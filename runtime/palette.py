"""Quantized matrices: indices into tables of a few values, and 8-bit rows.

Palettes are those of AFM 2024 (arXiv 2407.21075, section 5.2): every 16 rows of a matrix share one
table, whose values k-means has found. Matrices are (out, in).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GROUP = 16
"""Rows that share a table."""

WIDTHS = (2, 3, 4)
"""Bits of an index."""

TABLE_ENTRY_BITS = 16
"""Bits that an entry of a table counts for, as AFM stores it: an f16."""


class PaletteError(ValueError):
    """A matrix that cannot be held so; the message names value and bound."""


@dataclass(frozen=True)
class Palette:
    """A matrix (out, in) as indices into tables; row ``r`` looks up table ``r // 16``.

    Args:
      indices: (out, in), each below ``2**bits``.
      tables: (out // 16, 2**bits).
      bits: of an index: 2, 3 or 4.

    Raises:
      PaletteError: types, dimensions or indices do not fit each other.
    """

    indices: NDArray[np.uint8]
    tables: NDArray[np.float32]
    bits: int

    def __post_init__(self) -> None:
        if self.bits not in WIDTHS:
            raise PaletteError(f"indices of {self.bits!r} bits; they have 2, 3 or 4")
        if self.indices.dtype != np.uint8 or self.tables.dtype != np.float32:
            raise PaletteError(
                f"indices of {self.indices.dtype} and tables of {self.tables.dtype}; they are "
                "uint8 and float32"
            )
        check_rows(self.indices.shape)
        wanted = (self.indices.shape[0] // GROUP, 1 << self.bits)
        if self.tables.shape != wanted:
            raise PaletteError(
                f"tables of {self.tables.shape} for indices of {self.indices.shape} and "
                f"{self.bits} bits; they must be {wanted}"
            )
        top = int(self.indices.max())
        if top >> self.bits:
            raise PaletteError(f"an index of {top}; with {self.bits} bits it is below {wanted[1]}")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns: (out, in)."""
        return self.indices.shape[0], self.indices.shape[1]

    @property
    def stored_bits(self) -> int:
        """Bits of indices and tables, without what a file adds to align them."""
        return self.indices.size * self.bits + self.tables.size * TABLE_ENTRY_BITS

    def dequantized(self) -> NDArray[np.float32]:
        """The matrix that the palette stands for, (out, in)."""
        grouped = self.indices.reshape(len(self.tables), -1)
        return np.take_along_axis(self.tables, grouped, axis=1).reshape(self.shape)


@dataclass(frozen=True)
class RowInt8:
    """A matrix (out, in) as whole numbers from -127 to 127, times a scale for each row.

    Args:
      values: (out, in).
      scales: (out,).

    Raises:
      PaletteError: types or dimensions do not fit each other.
    """

    values: NDArray[np.int8]
    scales: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.values.dtype != np.int8 or self.scales.dtype != np.float32:
            raise PaletteError(
                f"values of {self.values.dtype} and scales of {self.scales.dtype}; they are int8 "
                "and float32"
            )
        if self.values.ndim != 2 or self.values.size == 0:
            raise PaletteError(f"values of {self.values.shape}; a matrix has two dimensions")
        if self.scales.shape != self.values.shape[:1]:
            raise PaletteError(
                f"scales of {self.scales.shape} for {self.values.shape[0]} rows; one each"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns: (out, in)."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def stored_bits(self) -> int:
        """Bits of values and scales (f32), without what a file adds to align them."""
        return self.values.size * 8 + self.scales.size * 32

    def dequantized(self) -> NDArray[np.float32]:
        """The matrix that it stands for, (out, in)."""
        return self.values.astype(np.float32) * self.scales[:, None]


def check_rows(shape: tuple[int, ...]) -> None:
    """Raises ``PaletteError`` unless a matrix of this shape falls into groups of 16 rows."""
    if len(shape) != 2 or 0 in shape:
        raise PaletteError(f"a matrix of {shape}; it has two dimensions, neither of them 0")
    if shape[0] % GROUP:
        raise PaletteError(
            f"a matrix of {shape[0]} rows; tables are for groups of {GROUP}, so that the rows must "
            "be a multiple of it"
        )


def quantize_rows(matrix: NDArray[np.float32]) -> RowInt8:
    """Each row of (out, in) by its own scale, its greatest magnitude at 127; ties to even.

    Raises:
      PaletteError: there is no matrix, or a value in it is not finite.
    """
    if not np.isfinite(matrix).all():
        raise PaletteError("a matrix with values that are not finite cannot be quantized")
    top = np.abs(matrix).max(axis=1) if matrix.ndim == 2 and matrix.size else np.ones(0)
    scales = np.where(top > 0, top / 127, 1).astype(np.float32)
    # A scale so small that it has lost its own digits must not bring a value beyond 127.
    values = np.clip(np.rint(matrix / scales[:, None]), -127, 127).astype(np.int8)
    return RowInt8(values, scales)
