"""One HTML file, one record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from filters.cap import TimeCapExceeded, time_cap
from filters.document import DeadLetter, Document
from filters.mime import sniff
from pipelines.sources.caps import Input
from pipelines.sources.compression import decoded_blocks
from pipelines.sources.page import page_document

OPTIONS = frozenset({"robots_agents", "url"})

_WIDE = (b"<\0", b"\0<")
"""How markup in UTF-16 without a byte order mark begins; its zero bytes look binary."""


def read_html(stream: BinaryIO, given: Input) -> Iterator[Document | DeadLetter]:
    """The document in an HTML file, compressed or not. Option ``url`` gives its address."""
    if not given.accept(given.identify(0)):
        return
    parts: list[bytes] = []
    size = 0
    for block in decoded_blocks(stream):
        parts.append(block.data)
        size += len(block.data)
        if block.error:
            yield given.dead(0, block.error, block.message)
            return
        if size > given.caps.max_html_bytes:
            yield given.dead(
                0, "PageTooLarge", f"page exceeds max_html_bytes = {given.caps.max_html_bytes}"
            )
            return
    try:
        with time_cap(given.caps.max_seconds):
            document = read_html_file(b"".join(parts), given)
    except TimeCapExceeded as error:
        yield given.dead(0, type(error).__name__, f"page {error}")
        return
    yield document


def read_html_file(data: bytes, given: Input) -> Document | DeadLetter:
    """The document in the bytes of an HTML file.

    A file of this kind is taken for HTML even where it begins with text; only one that is
    evidently binary keeps the type it was sniffed as, and no text.
    """
    sniffed = sniff(data)
    return page_document(
        given,
        0,
        url=given.options.get("url", ""),
        record_type="file",
        payload=data,
        declared_mime="text/html" if _may_be_markup(data, sniffed) else sniffed,
        metadata={"offset": "0"},
    )


def _may_be_markup(data: bytes, sniffed: str) -> bool:
    if sniffed == "application/octet-stream":
        return data.startswith(_WIDE)
    return sniffed != "application/pdf"
