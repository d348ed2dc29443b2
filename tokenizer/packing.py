"""Packing: documents into windows of one length, with nothing lost.

*Best fit* after Ding et al., "Fewer Truncations Improve Language Modeling" (ICML 2024, section 3):
a document longer than the window is cut in pieces, and the pieces, the longest first, each go to
the window with the least room that still takes them (best-fit decreasing). What stays free at the
end of a window is padding. *Concatenate* is the plain way: one document after the other, cut where
a window is full.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

METHODS = ("best-fit", "concatenate")
CUTS = ("newline", "window")
SEARCH = 8
"""A cut at a newline is looked for in the last of so many parts of a window."""

PIECE = np.dtype([("document", "<u4"), ("length", "<u4"), ("offset", "<u8")])
"""A run of tokens of one document: ``offset`` is where in the document it begins."""

Breaks = Callable[[int], NDArray[Any]]
"""The sorted places in a document, by its number, behind which its text may be cut: counts of
tokens from its start."""


@dataclass(frozen=True)
class Packed:
    """Pieces in the order of windows: window ``w`` holds ``starts[w]`` to ``starts[w + 1]``.

    Pieces lie back to back from the start of a window; what is left at its end is padding.
    """

    length: int
    pieces: NDArray[np.void]
    starts: NDArray[np.uint64]

    @property
    def windows(self) -> int:
        """How many windows there are."""
        return len(self.starts) - 1

    @property
    def tokens(self) -> int:
        """Tokens of documents in all windows."""
        return int(self.pieces["length"].sum(dtype=np.int64))

    @property
    def padding(self) -> int:
        """Places that hold no token."""
        return self.windows * self.length - self.tokens

    @property
    def cut_documents(self) -> int:
        """Documents that lie in more than one piece."""
        return len(np.unique(self.pieces["document"][self.pieces["offset"] > 0]))


def pack(
    lengths: NDArray[Any], window: int, method: str = "best-fit", breaks: Breaks | None = None
) -> Packed:
    """Pack documents of these lengths (in tokens, at least 1) into windows.

    ``breaks`` is where ``best-fit`` may cut a document that is longer than a window; without it,
    and where a document has no break in the last eighth of a window, the cut is at its end.

    Raises:
      ValueError: an unknown method, a window below 2, or a document without tokens.
    """
    if method not in METHODS:
        raise ValueError(f"the method {method!r} is unknown; use one of {', '.join(METHODS)}")
    if window < 2:
        raise ValueError(f"a window of {window} tokens; it needs at least 2")
    if len(lengths) and lengths.min() < 1:
        raise ValueError(f"document {int(lengths.argmin())} has no tokens; leave it out")
    if method == "concatenate":
        return _concatenate(lengths, window)
    return _best_fit(cut(lengths, window, breaks), window)


def cut(lengths: NDArray[Any], window: int, breaks: Breaks | None = None) -> NDArray[np.void]:
    """The pieces of documents, none longer than a window, in order of document and offset.

    A document of at most a window is one piece.
    """
    rows: list[tuple[int, int, int]] = []
    for number, length in enumerate(lengths.tolist()):
        offset = 0
        if length > window:
            places = breaks(number) if breaks is not None else np.zeros(0, np.int64)
            while length - offset > window:
                end = _cut_place(places, offset, window)
                rows.append((number, end - offset, offset))
                offset = end
        rows.append((number, length - offset, offset))
    return np.array(rows, dtype=PIECE)


def _cut_place(places: NDArray[Any], offset: int, window: int) -> int:
    """The last break in the last part of a window that begins at ``offset``, or its end."""
    last = int(np.searchsorted(places, offset + window, side="right")) - 1
    if last >= 0 and places[last] > offset + window - window // SEARCH:
        return int(places[last])
    return offset + window


def _best_fit(pieces: NDArray[np.void], window: int) -> Packed:
    """Best-fit decreasing. Windows come in the order in which they were opened.

    ``free`` has bit ``r`` set where there is a window with room for just ``r`` tokens, so the
    least room that takes a piece is one search for a bit.
    """
    order = np.argsort(-pieces["length"].astype(np.int64), kind="stable")
    windows: list[list[int]] = []
    rooms: list[list[int]] = [[] for _ in range(window)]
    free = 0
    for index in order.tolist():
        length = int(pieces["length"][index])
        fitting = free >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            number = rooms[room].pop()
            if not rooms[room]:
                free &= ~(1 << room)
            windows[number].append(index)
        else:
            room, number = window, len(windows)
            windows.append([index])
        if left := room - length:
            rooms[left].append(number)
            free |= 1 << left
    places = [index for members in windows for index in members]
    starts = np.cumsum([0, *map(len, windows)]).astype(np.uint64)
    return Packed(window, pieces[places], starts)


def _concatenate(lengths: NDArray[Any], window: int) -> Packed:
    """Cut the stream of all documents wherever a window or a document ends."""
    ends = np.cumsum(lengths.astype(np.int64))
    total = int(ends[-1]) if len(ends) else 0
    edges = np.arange(0, total, window, dtype=np.int64)
    begins = np.union1d(edges, ends - lengths)
    sizes = np.diff(np.append(begins, total))
    document = np.searchsorted(ends, begins, side="right")
    pieces = np.zeros(len(begins), PIECE)
    pieces["document"] = document
    pieces["length"] = sizes
    pieces["offset"] = begins - (ends - lengths)[document]
    starts = np.append(np.searchsorted(begins, edges), len(begins)).astype(np.uint64)
    return Packed(window, pieces, starts)
