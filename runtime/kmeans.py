"""Optimal k-means in one dimension, and palettes from it.

On a line clusters are intervals of the sorted values, so the best ones follow by dynamic
programming over their ends (Wang and Song, The R Journal 3/2, 2011). The end of the last but one
cluster never moves back as values are added, so each layer is found by halving: the middle row
bounds the rows on both sides of it (Grønlund et al., arXiv 1701.07204, section 3). That is
O(k n log n), here a level of halving at a time in array operations. The result is exact but for
the rounding of f64 sums: no histogram, no random start, no local optimum. One pass gives the best
clusters for every count up to the greatest.

Squared errors are weighted: by how much a weight's input varies (its energy), or by the loss's
curvature (Fisher's information, as in SqueezeLLM, arXiv 2306.07629, section 4.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.palette import GROUP, WIDTHS, Palette, PaletteError, check_rows

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

LEAST_WEIGHT = 1e-6
"""Of the mean weight: what no importance falls below, so that each value still has a place."""


def cluster(
    values: NDArray[Any], weights: NDArray[Any], counts: Sequence[int]
) -> dict[int, tuple[Floats, Places]]:
    """The clusters of least weighted squared error, for each of some counts.

    Where there are fewer distinct values than clusters, each is its own and the last is repeated.

    Args:
      values, weights: (n,); weights above 0.
      counts: how many clusters, each from 1.

    Returns:
      by count, the clusters' means in rising order, (count,), and each value's cluster, (n,).

    Raises:
      PaletteError: a value or weight is not finite, a weight not above 0, or there are none.
    """
    if values.ndim != 1 or values.shape != weights.shape or not len(values) or min(counts) < 1:
        raise PaletteError(
            f"clusters of values {values.shape} with weights {weights.shape}; they must be equally "
            "many, at least one, in one dimension"
        )
    if not (np.isfinite(values).all() and np.isfinite(weights).all() and (weights > 0).all()):
        raise PaletteError("values and weights must be finite, and weights above 0")
    distinct, places = np.unique(values.astype(np.float64), return_inverse=True)
    mass = np.bincount(places, weights.astype(np.float64) / float(weights.mean()))
    # Sums from the middle out lose fewer digits.
    middle = float(mass @ distinct / mass.sum())
    masses = np.concatenate([[0.0], np.cumsum(mass)])
    moments = np.concatenate([[0.0], np.cumsum(mass * (distinct - middle))])
    ends = _best_ends(masses, moments, min(max(counts), len(distinct)))
    found = {}
    for count in counts:
        bounds = _trace(ends, len(distinct), min(count, len(distinct)))
        inside = np.diff(moments[bounds]) / np.diff(masses[bounds]) + middle
        means = np.concatenate([inside, np.full(count - len(inside), inside[-1])])
        owner = np.repeat(np.arange(len(inside)), np.diff(bounds))
        found[count] = means, owner[places]
    return found


def _best_ends(masses: Floats, moments: Floats, count: int) -> list[Places]:
    """For 2 to ``count`` clusters of the first j values: where the last cluster begins, by j.

    The least error is the greatest sum of moment^2 / mass over the clusters.
    """
    worth = np.full(len(masses), -np.inf)
    worth[1:] = moments[1:] ** 2 / masses[1:]
    ends = []
    for clusters in range(2, count + 1):
        worth, begins = _add_cluster(worth, masses, moments, clusters)
        ends.append(begins)
    return ends


def _add_cluster(
    worth: Floats, masses: Floats, moments: Floats, clusters: int
) -> tuple[Floats, Places]:
    """The worth of one cluster more, by the number of values, and where that cluster begins.

    Rows are numbers of values. Those at odd multiples of a step are found between what their
    neighbours of the steps before have found; then the step is halved.
    """
    values = len(masses) - 1
    better = np.full(values + 1, -np.inf)
    begins = np.zeros(values + 1, np.int64)
    step = 1 << (values - clusters + 1).bit_length() - 1
    while step:
        rows = np.arange(clusters + step - 1, values + 1, 2 * step)
        left, right = rows - step, rows + step
        first = np.where(left >= clusters, begins[left], clusters - 1)
        last = np.where(right <= values, begins[np.minimum(right, values)], values)
        lengths = np.minimum(last, rows - 1) - first + 1
        starts = np.cumsum(lengths) - lengths
        tried = np.arange(int(lengths.sum()))
        tried += np.repeat(first - starts, lengths)
        found = np.repeat(moments[rows], lengths)
        found -= moments[tried]
        found *= found
        mass = np.repeat(masses[rows], lengths)
        mass -= masses[tried]
        found /= mass
        found += worth[tried]
        better[rows] = np.maximum.reduceat(found, starts)
        top = np.flatnonzero(found == np.repeat(better[rows], lengths))
        begins[rows] = tried[top[np.searchsorted(top, starts)]]
        step //= 2
    return better, begins


def _trace(ends: Sequence[Places], values: int, count: int) -> Places:
    """Where the best ``count`` clusters of all values begin, and the end: (count + 1,)."""
    bounds = [values]
    for begins in reversed(ends[: count - 1]):
        bounds.append(int(begins[bounds[-1]]))
    return np.array([0, *bounds[::-1]], np.int64)


def palettize(
    matrix: NDArray[np.float32],
    importance: NDArray[Any] | None = None,
    widths: Sequence[int] = WIDTHS,
    seen: Callable[[int], None] | None = None,
) -> dict[int, Palette]:
    """The best palette of a matrix (out, in) for each of some widths of indices, in bits.

    Args:
      importance: what squared errors count for: by input (in,), by weight (out, in), or all alike.
      seen: told the number of weights that are done, as work goes on.

    Raises:
      PaletteError: rows that are no multiple of 16, or what is not finite or below 0.
    """
    check_rows(matrix.shape)
    weights = _floored(importance, matrix.shape)
    groups = matrix.shape[0] // GROUP
    indices = {bits: np.empty(matrix.shape, np.uint8) for bits in widths}
    tables = {bits: np.empty((groups, 1 << bits), np.float32) for bits in widths}
    for group in range(groups):
        rows = slice(group * GROUP, (group + 1) * GROUP)
        found = cluster(matrix[rows].ravel(), weights[rows].ravel(), [1 << bits for bits in widths])
        for bits in widths:
            means, owner = found[1 << bits]
            tables[bits][group] = means
            indices[bits][rows] = owner.reshape(GROUP, -1)
        if seen is not None:
            seen(matrix[rows].size)
    return {bits: Palette(indices[bits], tables[bits], bits) for bits in widths}


def _floored(importance: NDArray[Any] | None, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The importance of every weight, (out, in): above 0, also where nothing was measured."""
    if importance is None:
        return np.ones(shape)
    if importance.shape not in (shape, shape[1:]):
        raise PaletteError(
            f"importance of {importance.shape} for a matrix of {shape}; one by input or by weight"
        )
    if not np.isfinite(importance).all() or (importance < 0).any():
        raise PaletteError("importance must be finite and at least 0")
    wide = importance.astype(np.float64)
    mean = float(wide.mean())
    floored = np.maximum(wide, mean * LEAST_WEIGHT) if mean else np.ones(wide.shape)
    return np.broadcast_to(floored, shape)


def weighted_error(
    matrix: NDArray[np.float32], quantized: NDArray[np.float32], importance: NDArray[Any] | None
) -> float:
    """The mean squared error that ``palettize`` makes least, over all weights."""
    weights = _floored(importance, matrix.shape)
    return float((weights * (matrix.astype(np.float64) - quantized) ** 2).sum() / weights.sum())
