"""Pictures of a report: PNG files that are there whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipelines import files

DPI = 110


@contextmanager
def picture(path: str, width: float, height: float) -> Iterator[Any]:
    """A figure of matplotlib, in inches, written when the block ends. It needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    yield figure
    with files.write_whole(path) as handle:
        figure.savefig(handle, format="png", dpi=DPI)
