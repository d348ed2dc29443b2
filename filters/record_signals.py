"""The signals that a reader sets on a document: what the record was and how it was decoded.

They are measured where the raw bytes are still at hand; rules on them are how a recipe states
which records of a crawl it wants (answers with status 2xx, HTML or plain text, not opted out).
"""

from __future__ import annotations

from filters.signal import Bound, Signal

_WARC = "WARC 1.1 (ISO 28500:2017)"
_ROBOTS = (
    "robots meta tag and X-Robots-Tag (Google Search Central); noai, noimageai (DeviantArt 2022)"
)

HTML_TYPES = ("text/html", "application/xhtml+xml")
"""MIME types whose payload is markup (WHATWG MIME Sniffing, section 4.6, HTML and XHTML)."""

TEXT_TYPES = ("text/plain",)
"""MIME types whose payload is taken as text without extraction."""

SIGNALS: tuple[Signal, ...] = (
    Signal(
        "read.record_type",
        "str",
        "word",
        "WARC-Type of the record; 'file' for an HTML file, 'row' for JSONL and Parquet",
        f"{_WARC}, section 6",
        Bound(one_of=("response", "resource", "conversion", "file", "row")),
    ),
    Signal(
        "read.http_status",
        "int",
        "code",
        "status code of the HTTP response; not measured where the record holds none",
        "RFC 9110, section 15",
        Bound(min=200, max=299),
    ),
    Signal(
        "read.mime",
        "str",
        "word",
        "MIME type without parameters, in lower case; sniffed where absent or generic",
        "RFC 9110, section 8.3; WHATWG MIME Sniffing, section 7",
        Bound(one_of=(*HTML_TYPES, *TEXT_TYPES)),
    ),
    Signal(
        "read.bytes",
        "int",
        "bytes",
        "size of the payload after transfer and content decoding",
        "RFC 9110, section 8.4; RFC 9112, section 7.1",
    ),
    Signal(
        "read.charset",
        "str",
        "word",
        "name of the character encoding that the payload was decoded with",
        "WHATWG Encoding, section 4.2; Python codec names outside that list",
    ),
    Signal(
        "read.charset_source",
        "str",
        "word",
        "what decided the encoding: bom, http, meta, utf-8, detector or declared",
        "WHATWG HTML, section 13.2.3.2",
    ),
    Signal(
        "read.decode_loss",
        "float",
        "ratio",
        "share of characters that are U+FFFD because their bytes could not be decoded",
        "WHATWG Encoding, section 4.1",
    ),
    Signal(
        "read.truncated",
        "bool",
        "flag",
        "the payload is incomplete: WARC-Truncated, or shorter than the HTTP message announced",
        f"{_WARC}, section 5.13; RFC 9112, section 8",
    ),
    Signal(
        "read.noindex",
        "bool",
        "flag",
        "the page asks not to be indexed",
        _ROBOTS,
        Bound(max=0),
    ),
    Signal("read.nofollow", "bool", "flag", "the page asks not to follow its links", _ROBOTS),
    Signal("read.noarchive", "bool", "flag", "the page asks not to be kept in a cache", _ROBOTS),
    Signal(
        "read.noai",
        "bool",
        "flag",
        "the page asks not to be used to train models",
        _ROBOTS,
        Bound(max=0),
    ),
    Signal(
        "read.noimageai",
        "bool",
        "flag",
        "the page asks that its images are not used to train models",
        _ROBOTS,
    ),
)
