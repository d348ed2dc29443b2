"""Bounds on what a reader takes into memory, and what every reader is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from filters.document import DeadLetter, Document

STAGE = "read"
"""The stage name in the dead letters of every reader."""

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class ReadCaps:
    """Bounds in bytes. What exceeds one becomes a dead letter; nothing is cut silently.

    ``max_record_bytes`` bounds a record as stored in the archive, ``max_expanded_bytes`` its
    payload after content decoding, ``max_html_bytes`` a page handed on for extraction (plain text
    and HTML alike), ``max_line_bytes`` one line of JSONL. ``max_seconds`` bounds the time that the
    decoding of one page may take.
    """

    max_record_bytes: int = 32 * _MIB
    max_expanded_bytes: int = 64 * _MIB
    max_html_bytes: int = 8 * _MIB
    max_line_bytes: int = 64 * _MIB
    max_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in ("max_record_bytes", "max_expanded_bytes", "max_html_bytes", "max_line_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1 byte")
        if not self.max_seconds > 0:
            raise ValueError(f"max_seconds is {self.max_seconds}; it must be above 0")


@dataclass(frozen=True, slots=True)
class Input:
    """One input and how its records are named and chosen.

    ``identify`` gives the document id for the position of a record in this input, counted from 0
    over all records, bad ones too; ``accept`` says whether that id is wanted. A record that is
    not accepted is skipped before it is decoded; damage to the input is reported in any case.

    A part of a file begins at byte ``offset`` with the record at position ``first``; ``end`` is
    the position it stops before, or -1 for the end of the file.
    """

    name: str
    source: str
    identify: Callable[[int], str]
    accept: Callable[[str], bool] = lambda _: True
    caps: ReadCaps = field(default_factory=ReadCaps)
    options: Mapping[str, str] = field(default_factory=dict)
    offset: int = 0
    first: int = 0
    end: int = -1

    def dead(self, position: int, error: str, message: str, url: str = "") -> DeadLetter:
        """A dead letter for the record at ``position``."""
        return DeadLetter(self.identify(position), STAGE, error, f"{self.name}: {message}", url)


RecordReader = Callable[[BinaryIO, Input], Iterator[Document | DeadLetter]]
"""Reads the raw, still compressed bytes of one input; yields one item for each record."""
