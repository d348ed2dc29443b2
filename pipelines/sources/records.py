"""The one entry to all readers: the kind of an input, its bytes, and out come records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

from filters.document import DeadLetter, Document
from pipelines.sources.caps import Input, ReadCaps, RecordReader
from pipelines.sources.html import OPTIONS as HTML_OPTIONS
from pipelines.sources.html import read_html
from pipelines.sources.jsonl import OPTIONS as JSONL_OPTIONS
from pipelines.sources.jsonl import read_jsonl
from pipelines.sources.parquet import OPTIONS as PARQUET_OPTIONS
from pipelines.sources.parquet import read_parquet
from pipelines.sources.warc import OPTIONS as WARC_OPTIONS
from pipelines.sources.warc import read_warc
from pipelines.sources.wet import read_wet

__all__ = ["KINDS", "Input", "ReadCaps", "RecordReader", "check_options", "read_records"]

_READERS: dict[str, tuple[RecordReader, frozenset[str]]] = {
    "warc": (read_warc, WARC_OPTIONS),
    "wet": (read_wet, WARC_OPTIONS),
    "html": (read_html, HTML_OPTIONS),
    "jsonl": (read_jsonl, JSONL_OPTIONS),
    "parquet": (read_parquet, PARQUET_OPTIONS),
}

KINDS: tuple[str, ...] = tuple(_READERS)
"""The kinds of input that ``read_records`` knows."""


def check_options(kind: str, options: Mapping[str, str]) -> None:
    """Raise ``ValueError`` for an unknown kind, or an option that this kind does not have."""
    if kind not in _READERS:
        raise ValueError(f"unknown kind of input {kind!r}; use one of {', '.join(KINDS)}")
    allowed = _READERS[kind][1]
    unknown = sorted(set(options) - allowed)
    if unknown:
        raise ValueError(
            f"unknown option {unknown[0]!r} for {kind} input; it takes "
            f"{', '.join(sorted(allowed)) or 'no options'}"
        )


def read_records(
    kind: str,
    stream: BinaryIO,
    *,
    name: str,
    source: str,
    identify: Callable[[int], str],
    accept: Callable[[str], bool] = lambda _: True,
    caps: ReadCaps | None = None,
    options: Mapping[str, str] | None = None,
    offset: int = 0,
    first: int = 0,
    end: int = -1,
) -> Iterator[Document | DeadLetter]:
    """Read every record of one input; one item for each, in the order in which they stand.

    ``stream`` holds the raw bytes, compressed or not: compression is told from them, not from
    ``name``, which is only used in messages. For a part of a file, ``stream`` stands at byte
    ``offset``, where the record at position ``first`` begins; the caller stops at position ``end``
    (Parquet needs the whole file, and skips by itself).

    Raises ``ValueError`` at once for an unknown kind or option; no bytes in ``stream`` make the
    iterator raise, errors of the stream itself do.
    """
    chosen = dict(options or {})
    check_options(kind, chosen)
    return _READERS[kind][0](
        stream,
        Input(name, source, identify, accept, caps or ReadCaps(), chosen, offset, first, end),
    )
