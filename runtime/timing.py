"""How long each matrix of a model takes for one token: a vector times the matrix, on one thread."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from runtime import native, plain
from runtime.build import NoLibrary
from runtime.file import Contents
from runtime.layout import Packed, integers, padded
from runtime.shape import ROWS

ROUNDS = 15
PLAIN_ROUNDS = 3
NUMPY = "numpy"

Call = Callable[[int], None]
"""Multiplies with so many groups of rows."""


def matrix_milliseconds(contents: Contents) -> dict[str, dict[str, float]]:
    """By engine and by name of a matrix, the median of several measurements, in milliseconds.

    The kernels go through all matrices in the order of the model, as for a token: so what a cache
    does not hold comes from memory, as it does there. What the call itself takes from Python is
    measured beside and taken off. Their set is the best for this processor; where there is no
    library, numpy stands alone. Numpy works on one matrix after the other, in f32, on as many
    threads as its own library takes.
    """
    found: dict[str, dict[str, float]] = {}
    with contextlib.suppress(NoLibrary):
        found[_kernels().name.decode()] = _native(contents)
    found[NUMPY] = {name: _plain(packed) for name, packed in contents.matrices.items()}
    return found


def _kernels() -> native.Kernels:
    kernels: native.Kernels = native.load().cider_kernels(None).contents
    return kernels


def _native(contents: Contents) -> dict[str, float]:
    calls = {name: _call(packed) for name, packed in contents.matrices.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            groups = padded(contents.matrices[name].rows) // ROWS
            seconds[name].append(_seconds(call, groups) - _seconds(call, 0))
    return {name: _milliseconds(own) for name, own in seconds.items()}


def _call(packed: Packed) -> Call:
    """A product of the kernels with all that it needs made before."""
    values, scale, total = _input(packed)
    out = np.zeros(padded(packed.rows), np.float32)
    own, multiply, to = native.matrix(packed), _kernels().multiply, out.ctypes.data
    x = native.Activations(values.ctypes.data, len(values), scale.ctypes.data, total.ctypes.data)
    held = (packed, values, scale, total, out, x)  # addresses do not keep arrays alive

    def call(groups: int) -> None:
        multiply(own, 0, groups, held[-1], 1, to, out.size, 0)

    return call


def _plain(packed: Packed) -> float:
    values, scale, _ = _input(packed)
    weights = integers(packed).astype(np.float32).T.copy()
    x = values.astype(np.float32)[None]

    def call(_groups: int) -> None:
        plain.multiply(packed, weights, x, scale)

    return _milliseconds([_seconds(call, 0) for _ in range(PLAIN_ROUNDS)])


def _input(
    packed: Packed,
) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.int32]]:
    """Activations of 8 bits, their scale and their sum. No time depends on the numbers."""
    values = (np.arange(packed.columns) % 255 - 127).astype(np.int8)
    return values, np.ones(1, np.float32), values.sum(keepdims=True, dtype=np.int32)


def _seconds(call: Call, groups: int) -> float:
    begun = time.perf_counter()
    call(groups)
    return time.perf_counter() - begun


def _milliseconds(seconds: list[float]) -> float:
    """The median, to a nanosecond. What is too short to be seen is none."""
    return round(max(0.0, 1e3 * float(np.median(seconds))), 6)
