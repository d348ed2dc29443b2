"""Small quantized models for tests, of random weights."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from tokenizers_here import small_tokenizer

from runtime.file import write
from runtime.palette import Palette, RowInt8, quantize_rows
from runtime.shape import Layer, Shape, matrices, vectors

SHAPE = Shape(2000, 96, 32, (Layer(4, 2, 160), Layer(2, 1, 96)), 5e5, 1e-6)
"""Layers that differ; a width and hidden widths that no power of two divides."""


def some_matrix(rng: np.random.Generator, rows: int, columns: int, bits: int) -> Palette | RowInt8:
    """A matrix of about the size of weights that keep what they multiply."""
    scale = np.float32(columns**-0.5)
    if bits == 8:
        return quantize_rows(rng.standard_normal((rows, columns), np.float32) * scale)
    tables = np.sort(rng.standard_normal((rows // 16, 1 << bits), np.float32), axis=1) * scale
    indices = rng.integers(0, 1 << bits, (rows, columns), np.uint8)
    return Palette(indices, tables, bits)


def some_weights(shape: Shape, seed: int, bits: tuple[int, ...]) -> dict[str, Any]:
    """Matrices and norms of a model; the matrices take ``bits`` in turn."""
    rng = np.random.Generator(np.random.PCG64(seed))
    weights = {
        name: some_matrix(rng, *dims, 8 if name == "embedding" else bits[number % len(bits)])
        for number, (name, dims) in enumerate(matrices(shape).items())
    }
    norms = {
        name: rng.uniform(0.5, 1.5, length).astype(np.float32)
        for name, length in vectors(shape).items()
    }
    return {"weights": weights, "scales": norms}


def write_model(
    path: str, shape: Shape = SHAPE, seed: int = 0, bits: tuple[int, ...] = (4, 3, 2, 8)
) -> str:
    """A model's file; the path."""
    write(path, shape, small_tokenizer(), **some_weights(shape, seed, bits), facts={"seed": seed})
    return path


@functools.cache
def a_model() -> str:
    """A model's file that no test changes, made once a process."""
    import atexit
    import shutil
    import tempfile

    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    return write_model(f"{folder}/m.cider")
