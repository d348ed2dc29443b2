"""A batch: some hundred records of one input, with what has been decided about them so far.

The batch is the element of the graph. A stage is a pure function from batch to batch, so that
many documents share one call of the engine while each of them still fails alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
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


@dataclass(frozen=True, slots=True)
class Together:
    """A stage's function that measures several documents in one call, where that is faster.

    ``measure`` sets the signals of all of them, each document's the same as if it were alone. A
    call has documents of at most ``characters`` of text, or one document.
    """

    measure: Callable[[Sequence[Document]], None]
    characters: int

    def __call__(self, document: Document) -> list[Edit]:
        """Measure one document."""
        self.measure([document])
        return []


StageFunction = Callable[[Document], list[Edit]]
"""What a stage does to a document; a ``Together`` is one as well."""

SHARE = 0.25
"""Of a document's time that a group of several has. Each is measured alone where it takes longer,
and so are those after it: it costs less than to be cut off again and again, and a call that does
not come back is far from the end of its process when it should."""


def apply(batch: Batch, stage: str, function: StageFunction, seconds: float) -> Batch:
    """Run one stage over the active documents of a batch.

    A document on which the stage raises, or runs longer than ``seconds``, becomes a dead letter
    of that stage. Where a group fails, or takes long, each of its documents is measured alone.
    Memory exhaustion counts as such an error; a request to stop does not.

    Raises:
      StageFailure: as the stage raised it.
    """
    started = time.perf_counter()
    together = True
    for group in _groups(batch, function):
        if together and len(group) > 1 and isinstance(function, Together):
            found = _attempt_all(group, function, seconds * SHARE)
            together = found is not TimeCapExceeded
            if found is None:
                continue
        for document in group:
            _attempt(batch, document, stage, function, seconds)
    batch.seconds[stage] = batch.seconds.get(stage, 0.0) + time.perf_counter() - started
    return batch


def _groups(batch: Batch, function: StageFunction) -> list[list[Document]]:
    """The active documents in their order, as many in a group as the function takes at a time."""
    most = function.characters if isinstance(function, Together) else 0
    groups: list[list[Document]] = []
    left = 0
    for document in batch.active():
        left -= len(document.text)
        if not groups or left < 0 or not most:
            groups.append([])
            left = most - len(document.text)
        groups[-1].append(document)
    return groups


def _attempt_all(
    group: Sequence[Document], function: Together, seconds: float
) -> type[BaseException] | None:
    """Measure several documents in one call; gives the class of the error, if any."""
    try:
        with time_cap(seconds):
            function.measure(group)
    except StageFailure:
        raise
    except (Exception, TimeCapExceeded) as error:
        return type(error)
    return None


def _attempt(
    batch: Batch, document: Document, stage: str, function: StageFunction, seconds: float
) -> None:
    """Run a stage over one document. Its error is let go at once: the frames that it holds hold
    all that the document took, which its neighbours may need."""
    try:
        with time_cap(seconds):
            edits = function(document)
    except StageFailure:
        raise
    except (Exception, TimeCapExceeded) as error:
        batch.bury(document, stage, error)
        return
    if edits:
        batch.edits.setdefault(document.id, []).extend(edits)
