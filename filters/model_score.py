"""How unlikely a quantized language model finds a document: bits per byte, whole and by paragraph.

The model is a file that the recipe names. A document is scored as it is, in windows of the model,
and short ones several at a time. Text that the model finds very unlikely is broken, in another
language, or of a kind that the model was not trained on; text that it finds very likely repeats
itself or is boilerplate.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filters.batch import StageFailure
from filters.document import Value
from filters.signal import Signal

if TYPE_CHECKING:
    from runtime.bits import Measured
    from runtime.model import Model

MIN_BYTES = 200
"""Bytes of a paragraph that is judged by itself: of fewer the model tells little."""

TOGETHER = 1 << 14
"""Characters of documents that are scored at a time: more make it no faster."""

SIGNALS: tuple[Signal, ...] = (
    Signal(
        "model.bits_per_byte",
        "float",
        "bits per byte",
        "negative log-likelihood of the text, as far as `most_bytes` goes, over the bytes of its "
        "tokens but the first; not measured on texts of one token or none",
        "own, runtime/bits.py; the measure of Gao et al. 2020 (The Pile, section 3.1)",
    ),
    Signal(
        "model.worst_paragraph",
        "float",
        "bits per byte",
        "the greatest bits per byte of a paragraph of 200 bytes or more; not measured where there "
        "is none",
        "own, runtime/bits.py",
    ),
    Signal(
        "model.easiest_paragraph",
        "float",
        "bits per byte",
        "the least bits per byte of a paragraph of 200 bytes or more; not measured where there is "
        "none",
        "own, runtime/bits.py",
    ),
)


@dataclass(frozen=True)
class ModelOptions:
    """``file`` is a model of ``cidermill quantize``, which sees ``window`` tokens at a time. Of a
    document only the first ``most_bytes`` are scored, so that a long one does not take minutes."""

    file: str = ""
    window: int = 512
    most_bytes: int = 1 << 15

    def __post_init__(self) -> None:
        if not 2 <= self.window <= 1 << 16:
            raise ValueError(f"window is {self.window} tokens; it must be from 2 to {1 << 16}")
        if self.most_bytes < 1:
            raise ValueError(f"most_bytes is {self.most_bytes}; it must be at least 1")


def check(options: ModelOptions) -> None:
    """Refuse a file that is no model, before a run begins.

    Raises:
      ValueError: the file is damaged or none of ours; the message names it and the fault.
      OSError: it cannot be opened.
    """
    from runtime.file import read

    read(options.file)


@functools.cache
def load(path: str, window: int) -> Model:
    """The model in a file, mapped once a process: all processes of a machine share its pages.

    It computes in one thread: an engine has a worker for each processor already.

    Raises:
      StageFailure: this machine lacks the kernels. With numpy a page takes minutes, and the caps
        would decide which are kept.
    """
    # Imported here: it is only needed where documents are measured.
    from runtime import native
    from runtime.build import NoLibrary
    from runtime.model import Model

    try:
        native.load()
    except NoLibrary as error:
        raise StageFailure(
            f"the stage 'model' needs the runtime's kernels, and there are none here: {error}"
        ) from None
    return Model.load(path, threads=1, context=window, keep=0)


def measure(texts: Sequence[str], options: ModelOptions) -> list[dict[str, Value]]:
    """All signals of some texts, which do not depend on each other.

    Raises:
      StageFailure: the model's numbers overflow.
    """
    from runtime import bits
    from runtime.file import CiderFileError

    model = load(options.file, options.window)
    beginnings = [bits.cut(text, options.most_bytes) for text in texts]
    try:
        found = bits.measure(model, beginnings, window=options.window)
    except CiderFileError as error:
        raise StageFailure(str(error)) from None
    return [_signals(own) for own in found]


def _signals(found: Measured) -> dict[str, Value]:
    judged = [
        part.per_byte
        for part in found.paragraphs
        if part.bytes >= MIN_BYTES and part.per_byte is not None
    ]
    return {
        "model.bits_per_byte": found.whole.per_byte,
        "model.worst_paragraph": max(judged, default=None),
        "model.easiest_paragraph": min(judged, default=None),
    }
