"""What the composites of the graph have in common."""

from __future__ import annotations

import apache_beam as beam

from pipelines.run import Run


class Composite(beam.PTransform):  # type: ignore[misc]
    """A step of the graph that needs to know the run."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run
