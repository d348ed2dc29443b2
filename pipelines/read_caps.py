"""The recipe's caps as the readers know them."""

from __future__ import annotations

from pipelines.run import Run
from pipelines.sources.records import ReadCaps


def read_caps(run: Run) -> ReadCaps:
    """The caps on reading of a run's recipe."""
    caps = run.recipe.caps
    return ReadCaps(
        max_record_bytes=caps.record_bytes,
        max_expanded_bytes=caps.expanded_bytes,
        max_html_bytes=caps.page_bytes,
        max_seconds=caps.seconds,
    )
