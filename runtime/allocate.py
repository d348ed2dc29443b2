"""Bits for each layer, so that a model of a given size loses least: a knapsack, solved exactly.

Each matrix takes one width; what it costs is its bits with its tables, what it loses was measured.
AFM 2024 (arXiv 2407.21075, section 5.2) mixes widths to a mean of 3.5 bits a weight, and says of
the choice only that people made it with a profiler; this rule is this project's own. The mean is
over the matrices that are quantized so, tables included, without embedding and norms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from runtime.palette import GROUP, TABLE_ENTRY_BITS

CAPACITY = 1 << 16
"""The budget is counted in at most so many units. Sizes that are not whole units are rounded up,
so that the budget holds; with a hundred matrices that leaves a thousandth of it unused at most."""


class AllocationError(ValueError):
    """A mean that no choice of widths reaches; the message names what can be had."""


@dataclass(frozen=True)
class Choice:
    """A matrix: its name, its number of weights, and by width its bits and what the model loses."""

    name: str
    weights: int
    bits: Mapping[int, int]
    loss: Mapping[int, float]


def palette_bits(rows: int, columns: int, width: int) -> int:
    """Bits of a palette's indices and tables."""
    return rows * columns * width + rows // GROUP * (1 << width) * TABLE_ENTRY_BITS


def mean_bits(choices: Sequence[Choice], widths: Mapping[str, int]) -> float:
    """Bits a weight when each matrix has the width that ``widths`` has by its name."""
    total = sum(choice.bits[widths[choice.name]] for choice in choices)
    return total / sum(choice.weights for choice in choices)


def allocate(choices: Sequence[Choice], target: float) -> dict[str, int]:
    """Widths by name whose losses sum to the least, at a mean of at most ``target`` bits a weight.

    What is left of the budget widens matrices while one fits, whatever chance has measured of it,
    so that the mean falls short of the target by less than the smallest step that was left.

    Raises:
      AllocationError: there is nothing to choose from, a loss is not finite, or even the smallest
        widths are above the target.
    """
    _check(choices)
    weights = sum(choice.weights for choice in choices)
    least = sum(min(choice.bits.values()) for choice in choices)
    budget = math.floor(target * weights + 1e-6)
    if not least <= budget:
        most = sum(max(choice.bits.values()) for choice in choices)
        raise AllocationError(
            f"a mean of {target:g} bits a weight; with their tables these matrices take "
            f"{least / weights:.3f} at least and {most / weights:.3f} at most"
        )
    widths = _knapsack(choices, budget)
    return _fill(choices, widths, budget)


def _check(choices: Sequence[Choice]) -> None:
    if not choices:
        raise AllocationError("there are no matrices to choose widths for")
    for choice in choices:
        for width, loss in choice.loss.items():
            if not math.isfinite(loss):
                raise AllocationError(f"{choice.name} loses {loss} at {width} bits")


def _knapsack(choices: Sequence[Choice], budget: int) -> dict[str, int]:
    """The widths of least loss within a budget of bits.

    What is above the smallest width of each matrix is what is chosen; dynamic programming over
    matrices and units of the budget.
    """
    spare = budget - sum(min(choice.bits.values()) for choice in choices)
    extra = [
        {width: bits - min(choice.bits.values()) for width, bits in choice.bits.items()}
        for choice in choices
    ]
    unit = math.gcd(*(bits for own in extra for bits in own.values())) or 1
    unit *= math.ceil((spare // unit + 1) / CAPACITY)
    best = np.zeros(spare // unit + 1)
    taken = []
    for choice, own in zip(choices, extra, strict=True):
        widths = sorted(choice.loss)
        tried = np.full((len(widths), len(best)), np.inf)
        for row, width in enumerate(widths):
            units = -(-own[width] // unit)
            if units < len(best):
                tried[row, units:] = best[: len(best) - units] + choice.loss[width]
        # Of equal losses the smaller width.
        rows = tried.argmin(0)
        best = tried[rows, np.arange(len(best))]
        taken.append((widths, rows, own))
    found = {}
    left = len(best) - 1
    for choice, (widths, rows, own) in zip(reversed(choices), reversed(taken), strict=True):
        width = widths[int(rows[left])]
        found[choice.name] = width
        left -= -(-own[width] // unit)
    return {choice.name: found[choice.name] for choice in choices}


def _fill(choices: Sequence[Choice], widths: Mapping[str, int], budget: int) -> dict[str, int]:
    """Widen matrices while one fits into what is left, the most gain for a bit first."""
    found = dict(widths)
    while True:
        left = budget - sum(choice.bits[found[choice.name]] for choice in choices)
        steps = []
        for place, choice in enumerate(choices):
            now = found[choice.name]
            for width in choice.loss:
                cost = choice.bits[width] - choice.bits[now]
                if width > now and 0 < cost <= left:
                    gain = choice.loss[now] - choice.loss[width]
                    steps.append((gain / cost, -place, -width))
        if not steps:
            return found
        _, place, width = max(steps)
        found[choices[-place].name] = -width
