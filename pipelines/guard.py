"""What a worker process of an engine sets up before it touches a record."""

from __future__ import annotations

import functools
import os

from filters import cap
from pipelines import memory
from pipelines.run import Run


def prepare(run: Run) -> None:
    """End this process when a page hangs in native code, and offer it when memory runs out.

    Only where the engine's workers are processes of their own: in the process that submitted the
    job, an end would end everything.
    """
    if run.isolated:
        _prepare(run.recipe.caps.hang_seconds)


@functools.cache
def _prepare(hang_seconds: float) -> None:
    memory.volunteer()
    # A pool of Beam's gives its workers a pipe to print to and never reads it: one that prints
    # more than the pipe holds would wait for ever.
    os.dup2(2, 1)
    cap.end_when_hanging(hang_seconds)
