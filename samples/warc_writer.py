"""A minimal WARC 1.1 writer whose bytes depend on what is written and on nothing else."""

from __future__ import annotations

import gzip
import io
import uuid

DATE = "2026-10-01T06:00:00Z"
CRLF = b"\r\n"


def gzip_member(data: bytes) -> bytes:
    """One gzip member without a name or time in its header."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=9, mtime=0) as out:
        out.write(data)
    return buffer.getvalue()


def record(kind: str, url: str, content_type: str, block: bytes, **extra: str) -> bytes:
    """One WARC record, not compressed. ``extra`` adds header fields (``_`` becomes ``-``)."""
    identifier = uuid.uuid5(uuid.NAMESPACE_URL, f"{kind} {url}")
    fields = [
        "WARC/1.1",
        f"WARC-Type: {kind}",
        f"WARC-Record-ID: <urn:uuid:{identifier}>",
        f"WARC-Date: {DATE}",
        *([f"WARC-Target-URI: {url}"] if kind != "warcinfo" else []),
        *(f"{name.replace('_', '-')}: {value}" for name, value in sorted(extra.items())),
        f"Content-Type: {content_type}",
        f"Content-Length: {len(block)}",
    ]
    return "\r\n".join(fields).encode() + CRLF * 2 + block + CRLF * 2


def response(
    url: str,
    body: bytes,
    *,
    status: str = "200 OK",
    content_type: str = "text/html; charset=utf-8",
    headers: tuple[str, ...] = (),
) -> bytes:
    """A response record with an HTTP message."""
    lines = [f"HTTP/1.1 {status}", "Server: orchard/1.0"]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    lines += [*headers]
    if not any(line.lower().startswith("transfer-encoding") for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    block = "\r\n".join(lines).encode() + CRLF * 2 + body
    return record("response", url, "application/http; msgtype=response", block)


def chunked(body: bytes, size: int = 700) -> bytes:
    """A body in HTTP/1.1 chunks."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(f"{len(p):x}".encode() + CRLF + p + CRLF for p in parts) + b"0" + CRLF * 2
