"""A histogram of one signal as SVG, with the bounds of its rules drawn in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, FOOT = 340, 120, 18
BINS = 34


@dataclass(frozen=True)
class Axis:
    """Where a value lies on the horizontal axis: linear, or logarithmic over many decades."""

    low: float
    high: float
    log: bool

    @classmethod
    def over(cls, values: Sequence[float]) -> Axis:
        """An axis that shows all values; logarithmic where they span over three decades."""
        low, high = min(values), max(values)
        positive = [v for v in values if v > 0]
        if low >= 0 and positive and high / min(positive) > 1000:
            return cls(min(positive), high, True)
        if low == high:
            low, high = low - 0.5, high + 0.5
        return cls(low, high, False)

    def place(self, value: float) -> float:
        """0 at the left end, 1 at the right; what lies beyond an end is put there."""
        if self.log:
            if value <= self.low:
                return 0.0
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, share))


def numbers(histogram: Mapping[str, int]) -> dict[float, int]:
    """The bins of an account's histogram that are finite numbers."""
    found = {}
    for key, count in histogram.items():
        try:
            value = float(key)
        except ValueError:
            continue
        if math.isfinite(value):
            found[value] = count
    return found


def svg(
    histogram: Mapping[str, int], kept: Mapping[str, int], bounds: Sequence[float], label: str
) -> str:
    """All documents in grey, kept ones in green, a red line at each bound.

    The height is the square root of the count, so that rare values stay visible.
    """
    everything, survivors = numbers(histogram), numbers(kept)
    if not everything:
        return ""
    axis = Axis.over([*everything, *bounds])
    grey, green = _bins(everything, axis), _bins(survivors, axis)
    top = math.sqrt(max(grey))
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT + FOOT}" role="img" aria-label="{escape(label)}">']
    step = WIDTH / BINS
    for place, (total, good) in enumerate(zip(grey, green, strict=True)):
        for count, name in ((total, "all"), (good, "kept")):
            if count:
                height = max(1.0, (HEIGHT - 4) * math.sqrt(count) / top)
                parts.append(
                    f'<rect class="{name}" x="{place * step:.1f}" y="{HEIGHT - height:.1f}" '
                    f'width="{step - 1:.1f}" height="{height:.1f}">'
                    f"<title>{total} documents, {good} kept</title></rect>"
                )
    for bound in bounds:
        x = 1 + axis.place(bound) * (WIDTH - 2)
        parts.append(f'<line class="bound" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{HEIGHT}"/>')
        anchor = "end" if x > WIDTH / 2 else "start"
        shift = -3 if x > WIDTH / 2 else 3
        parts.append(
            f'<text class="bound" x="{x + shift:.1f}" y="10" text-anchor="{anchor}">'
            f"{bound:g}</text>"
        )
    scale = " (log)" if axis.log else ""
    parts.append(f'<text x="0" y="{HEIGHT + 13}">{axis.low:g}</text>')
    parts.append(
        f'<text x="{WIDTH}" y="{HEIGHT + 13}" text-anchor="end">{axis.high:g}{scale}</text></svg>'
    )
    return "".join(parts)


def _bins(values: Mapping[float, int], axis: Axis) -> list[int]:
    bins = [0] * BINS
    for value, count in values.items():
        bins[min(BINS - 1, int(axis.place(value) * BINS))] += count
    return bins
