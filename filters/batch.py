"""A batch: some hundred records of one input, with what has been decided about them so far.

The batch is the element of the graph. A stage is a pure function from batch to batch, so that
many documents share one call of the engine while each of them still fails alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from filters.cap import TimeCapExceeded, time_cap
from filters.document import DeadLetter, Document, Edit


class StageFailure(RuntimeError):
    """What a stage measures with does not work: no document is to blame, and the run fails."""


MAX_MESSAGE = 200
"""Characters kept of an error's message: enough to act on, too few to carry a document's text."""


@dataclass(slots=True)
class Batch:
    """Records ``first`` to ``end`` (exclusive) of one input.

    ``documents`` holds every record that could be read, in reading order, also those that a rule
    has ``rejected`` or that are among the ``dead`` since. ``letters`` has one dead letter for each
    id in ``dead`` and for each record that could not be read. ``seconds`` is the time each stage
    took; it never reaches an output file.
    """

    input: str
    number: int
    first: int
    end: int
    documents: list[Document]
    letters: list[DeadLetter] = field(default_factory=list)
    edits: dict[str, list[Edit]] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)
    last: bool = False
    offset: int = 0
    """Bytes of the input read when the batch was full; for progress only."""
    spent: dict[str, dict[str, float]] = field(default_factory=dict)
    """Seconds by worker and stage of a batch that comes from its file; for timings only."""
    sealed: bool = False
    """True where this batch stands for work that an earlier run has finished and stored."""

    def active(self) -> Iterator[Document]:
        """The documents that are neither rejected nor dead."""
        for document in self.documents:
            if document.id not in self.rejected and document.id not in self.dead:
                yield document

    def bury(self, document: Document, stage: str, error: BaseException) -> None:
        """Turn a document into a dead letter, alone; its neighbours go on."""
        self.dead.add(document.id)
        self.letters.append(dead_letter(document.id, stage, error))


def dead_letter(record: str, stage: str, error: BaseException) -> DeadLetter:
    """The dead letter for an error: its class, and its message only where we wrote it.

    Messages of foreign exceptions often quote the input, so only those of our own classes
    (``explains = True``) are kept.
    """
    message = str(error) if getattr(error, "explains", False) else ""
    return DeadLetter(record, stage, type(error).__name__, message[:MAX_MESSAGE])


def apply(
    batch: Batch, stage: str, function: Callable[[Document], list[Edit]], seconds: float
) -> Batch:
    """Run one stage over the active documents of a batch.

    A document on which the stage raises, or runs longer than ``seconds``, becomes a dead letter
    of that stage. Memory exhaustion counts as such an error; a request to stop does not.

    Raises:
      StageFailure: as the stage raised it.
    """
    started = time.perf_counter()
    for document in list(batch.active()):
        try:
            with time_cap(seconds):
                edits = function(document)
        except StageFailure:
            raise
        except (Exception, TimeCapExceeded) as error:
            batch.bury(document, stage, error)
            continue
        if edits:
            batch.edits.setdefault(document.id, []).extend(edits)
    batch.seconds[stage] = batch.seconds.get(stage, 0.0) + time.perf_counter() - started
    return batch
