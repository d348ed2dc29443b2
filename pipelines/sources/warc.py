"""WARC and ARC files: every record becomes a document, every damage a dead letter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from filters.cap import TimeCapExceeded, time_cap
from filters.content_encoding import ContentCodingError
from filters.document import DeadLetter, Document
from filters.http_message import HttpMessage, parse_http_response, payload, split_content_type
from pipelines.sources.caps import Input
from pipelines.sources.compression import decoded_blocks
from pipelines.sources.frames import Damage, Frame, frames
from pipelines.sources.page import page_document
from pipelines.sources.window import Window

OPTIONS = frozenset({"robots_agents"})

_WITH_CONTENT = frozenset({"response", "resource", "conversion"})
_METADATA = {
    "warc-date": "date",
    "warc-record-id": "record_id",
    "warc-payload-digest": "payload_digest",
    "warc-identified-content-language": "identified_language",
    "warc-truncated": "truncated_reason",
}


def read_warc(stream: BinaryIO, given: Input) -> Iterator[Document | DeadLetter]:
    """One item for each record, in file order; see ``pipelines.sources.records.read_records``."""
    window = Window(decoded_blocks(stream, given.offset), given.offset)
    for position, frame in enumerate(frames(window, given.caps), given.first):
        if isinstance(frame, Damage):
            yield given.dead(position, frame.error, frame.message)
        elif given.accept(given.identify(position)):
            yield _in_time(frame, position, given)


def _in_time(frame: Frame, position: int, given: Input) -> Document | DeadLetter:
    try:
        with time_cap(given.caps.max_seconds):
            return _document(frame, position, given)
    except TimeCapExceeded as error:
        where = f"record at offset {frame.offset} {error}"
        return given.dead(position, type(error).__name__, where, _url(frame.headers))


def _document(frame: Frame, position: int, given: Input) -> Document | DeadLetter:
    headers = frame.headers
    record_type = headers.get("warc-type", "").lower()
    mime, charset = split_content_type(headers.get("content-type", ""))
    metadata = {name: headers[key] for key, name in _METADATA.items() if headers.get(key)}
    metadata["offset"] = str(frame.offset)
    truncated = headers.get("warc-truncated", "").strip().lower() not in {"", "none"}
    message = HttpMessage(None, (), frame.block)
    if _holds_http_response(record_type, mime, frame.block):
        message = parse_http_response(frame.block)
        mime, charset = split_content_type(message.header("content-type"))
        if modified := message.header("last-modified"):
            metadata["last_modified"] = modified
    if content_type := message.header("content-type") or headers.get("content-type", ""):
        metadata["content_type"] = content_type
    body = message.body
    if record_type in _WITH_CONTENT:
        try:
            decoded = payload(message, given.caps.max_expanded_bytes)
        except ContentCodingError as error:
            return given.dead(
                position,
                type(error).__name__,
                f"record at offset {frame.offset}: {error}",
                _url(headers),
            )
        body, truncated = decoded.data, truncated or decoded.truncated
    elif not mime:
        mime = "application/octet-stream"
    return page_document(
        given,
        position,
        url=_url(headers),
        record_type=record_type,
        payload=body,
        declared_mime=mime,
        http_charset=charset,
        http_status=message.status,
        truncated=truncated,
        robots_headers=message.headers_named("x-robots-tag"),
        metadata=metadata,
        decode_payload=record_type in _WITH_CONTENT,
    )


def _url(headers: dict[str, str]) -> str:
    return headers.get("warc-target-uri", "").strip("<> ")


def _holds_http_response(record_type: str, mime: str, block: bytes) -> bool:
    """Whether to parse the block as HTTP: as declared, or where a response shows a status line."""
    if record_type not in {"response", "revisit"}:
        return False
    return mime == "application/http" or block[:5].upper() == b"HTTP/"
