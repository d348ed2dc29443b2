"""WET files: WARC files of ``conversion`` records, whose block is the text of a page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from filters.document import DeadLetter, Document
from pipelines.sources.caps import Input
from pipelines.sources.warc import read_warc


def read_wet(stream: BinaryIO, given: Input) -> Iterator[Document | DeadLetter]:
    """The records of a WET file; text is set from ``conversion`` records of ``text/plain``."""
    return read_warc(stream, given)
