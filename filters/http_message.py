"""A stored HTTP message: its status line, its headers and the payload without its codings.

Parsed the way archives need it (RFC 9112, with what its section 2.2 calls robustness): bare LF,
folded headers, a missing reason, bytes outside ASCII and interim 1xx answers are all accepted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from filters.content_encoding import content_codings, dechunk, undo_content_codings

_STATUS = re.compile(
    rb"(?:HTTP/\d+(?:\.\d+)?|ICY)[ \t]+(\d{3})(?!\d)[^\n]*(?:\n|\Z)", re.IGNORECASE
)
_END_OF_HEADERS = re.compile(rb"\n[ \t]*\r?\n")
_INTERIM_LIMIT = 16

MAX_HEADER_BYTES = 1 << 20
"""Bytes of one header block that are looked at; servers stop at 8 to 64 KiB."""


@dataclass(frozen=True, slots=True)
class HttpMessage:
    """``status`` is ``None`` where the bytes are no HTTP message; then all of them are the body.

    ``headers`` keep their order, with names in lower case; ``complete`` tells whether the header
    block was ended by an empty line.
    """

    status: int | None
    headers: tuple[tuple[str, str], ...]
    body: bytes
    complete: bool = True

    def header(self, name: str) -> str:
        """The first value of a header, or the empty string; ``name`` is in lower case."""
        return next((value for key, value in self.headers if key == name), "")

    def headers_named(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        return [value for key, value in self.headers if key == name]


@dataclass(frozen=True, slots=True)
class Payload:
    """The body without transfer and content codings; ``truncated`` where some of it is missing."""

    data: bytes
    truncated: bool


def parse_http_response(block: bytes) -> HttpMessage:
    """Parse the block of a response record. Never raises; interim ``1xx`` blocks are skipped."""
    start = 0
    for _ in range(_INTERIM_LIMIT):
        line = _STATUS.match(block, start)
        if line is None:
            return HttpMessage(None, (), block[start:])
        status = int(line[1])
        head_end = _END_OF_HEADERS.search(
            block, max(start, line.end() - 1), start + MAX_HEADER_BYTES
        )
        if head_end is None:
            return HttpMessage(status, _headers(block[line.end() :][:MAX_HEADER_BYTES]), b"", False)
        following = head_end.end()
        if 100 <= status < 200 and status != 101 and _STATUS.match(block, following):
            start = following
            continue
        return HttpMessage(
            status, _headers(block[line.end() : head_end.start() + 1]), block[following:]
        )
    return HttpMessage(None, (), block[start:])


def payload(message: HttpMessage, max_bytes: int) -> Payload:
    """The body of ``message`` as the client saw it.

    ``Content-Length`` is compared with the stored body only where no transfer coding applies
    (RFC 9112, section 6.3) and only a shorter body counts. Raises ``ContentCodingError`` where a
    coding cannot be undone or expands beyond ``max_bytes``.
    """
    body = message.body
    truncated = not message.complete
    chunked = any(
        "chunked" in value.lower() for value in message.headers_named("transfer-encoding")
    )
    codings = [
        coding
        for value in message.headers_named("content-encoding")
        for coding in content_codings(value)
    ]
    if chunked:
        decoded = dechunk(body)
        body, truncated = decoded.data, truncated or not decoded.complete
    expanded = undo_content_codings(body, codings, max_bytes)
    truncated = truncated or not expanded.complete
    if not chunked and expanded.data is body:
        # Stored as received: with a coding undone before storage the length is that of the
        # coded body and says nothing.
        length = message.header("content-length").split(",")[0].strip()
        if not codings and length.isascii() and length.isdigit() and len(length) < 19:
            truncated = truncated or len(body) < int(length)
    return Payload(expanded.data, truncated)


def split_content_type(value: str) -> tuple[str, str | None]:
    """A ``Content-Type`` value as (type in lower case, charset parameter or ``None``).

    The type is empty where the value is no MIME type (WHATWG MIME Sniffing, section 4.4).
    """
    essence, _, parameters = value.partition(";")
    essence = essence.strip().lower()
    if not _MIME.fullmatch(essence):
        essence = ""
    match = _CHARSET.search(parameters)
    charset = (match[1] if match[1] is not None else match[2]).strip() if match else ""
    return essence, charset or None


_MIME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+/[!#$%&'*+.^_`|~0-9a-z-]+")
_CHARSET = re.compile(
    r"""(?:^|[;\s,])charset\s*=\s*(?:["']([^"']*)["']?|([^\s;,"']+))""", re.IGNORECASE
)


def _headers(block: bytes) -> tuple[tuple[str, str], ...]:
    headers: list[tuple[str, str]] = []
    # Bytes outside ASCII are allowed as obs-text; Latin-1 keeps them apart and never fails.
    for line in block.decode("latin-1").split("\n"):
        if line[:1] in {" ", "\t"} and headers and line.strip():
            name, value = headers[-1]
            headers[-1] = (name, f"{value} {line.strip()}")
            continue
        name, colon, value = line.partition(":")
        if colon:
            headers.append((name.strip().lower(), value.strip()))
    return tuple(headers)
