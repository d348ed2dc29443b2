"""Quantized matrices as they are held: what they stand for, what is refused, how many bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from runtime.palette import Palette, PaletteError, RowInt8, quantize_rows


def palette(rows: int = 32, columns: int = 64, bits: int = 4, **changes) -> Palette:
    drawn = np.random.default_rng(7)
    fields = {
        "indices": drawn.integers(0, 1 << bits, (rows, columns)).astype(np.uint8),
        "tables": drawn.standard_normal((rows // 16, 1 << bits)).astype(np.float32),
        "bits": bits,
    }
    return Palette(**{**fields, **changes})


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_each_row_looks_up_the_table_of_its_sixteen(bits):
    found = palette(48, 5, bits)
    wanted = [[found.tables[r // 16, i] for i in row] for r, row in enumerate(found.indices)]
    np.testing.assert_array_equal(found.dequantized(), np.array(wanted, np.float32))


@pytest.mark.parametrize(
    ("columns", "wanted"), [(3072, 4.0052), (8064, 4.0020), (768, 4.0208), (64, 4.25)]
)
def test_bits_per_weight_count_the_tables(columns, wanted):
    found = palette(32, columns)
    assert found.stored_bits / found.indices.size == pytest.approx(wanted, abs=5e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits": 5}, "indices of 5 bits"),
        ({"indices": np.zeros((32, 64), np.int64)}, "indices of int64"),
        ({"indices": np.zeros((24, 64), np.uint8)}, "24 rows"),
        ({"indices": np.zeros((32, 0), np.uint8)}, r"\(32, 0\)"),
        ({"indices": np.full((32, 64), 16, np.uint8)}, "an index of 16"),
        ({"tables": np.zeros((1, 16), np.float32)}, r"must be \(2, 16\)"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(PaletteError, match=message):
        palette(**changes)


@given(hnp.arrays(np.float32, (5, 9), elements=st.floats(-(2.0**99), 2.0**99, width=32)))
def test_rows_of_eight_bits_are_within_half_a_step(matrix):
    found = quantize_rows(matrix)
    step = np.abs(matrix).max(1, keepdims=True) / 127
    off = np.abs(found.dequantized().astype(np.float64) - matrix)
    assert (off <= step * 0.5001 + 1e-37).all()
    assert found.stored_bits == 5 * 9 * 8 + 5 * 32


def test_the_greatest_of_a_row_is_at_127():
    found = quantize_rows(np.array([[0.5, -1.0, 0.1], [0, 0, 0], [6.35, 0.05, -0.02]], np.float32))
    np.testing.assert_array_equal(found.values, [[64, -127, 13], [0, 0, 0], [127, 1, 0]])
    np.testing.assert_allclose(found.scales, [1 / 127, 1, 0.05], rtol=1e-6)


def test_rows_that_are_no_numbers_or_do_not_fit_are_refused():
    with pytest.raises(PaletteError, match="not finite"):
        quantize_rows(np.array([[1.0, np.nan]], np.float32))
    with pytest.raises(PaletteError, match=r"scales of \(2,\) for 1 rows"):
        RowInt8(np.zeros((1, 4), np.int8), np.zeros(2, np.float32))
