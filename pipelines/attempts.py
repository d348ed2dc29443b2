"""The journal of attempts at a piece of work: how a worker learns that others died at it.

An attempt leaves a small file before it starts and removes it when it ends, well or with an
error. What stays was left by a worker that was killed or crashed. No engine tells this to the
worker that gets the work next; the work directory does.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

from pipelines import files
from pipelines.timing import worker_name

FOLDER = "attempts"
"""Of the work directory: holds all notes; few, for each goes with its attempt."""

DEADLY = 2
"""So many attempts that died make their work suspect: it is then done under a probe."""


@contextlib.contextmanager
def attempt(prefix: str) -> Iterator[int]:
    """Hold a note of this attempt while the block runs; gives how many earlier ones died.

    ``prefix`` is the path that the notes of this work, and no others, begin with. An attempt that
    goes on at the same time elsewhere counts as dead: that costs time and changes nothing.
    """
    died = len(files.listing(f"{prefix}*"))
    note = f"{prefix}{uuid.uuid4().hex}"
    files.write_json(note, {"worker": worker_name()})
    try:
        yield died
    finally:
        files.remove([note])


def forget(prefix: str) -> None:
    """Remove all notes: the work is done, or who ended the workers did so on purpose."""
    files.remove([path for path, _, _ in files.listing(f"{prefix}*")])
