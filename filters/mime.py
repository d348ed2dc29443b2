"""The MIME type of a payload whose header names none, or a generic one.

Source: WHATWG MIME Sniffing, section 7.1 ("identifying a resource with an unknown MIME type"),
reduced to what a text corpus needs: HTML, XML, PDF, text or binary. Unlike there, a byte order
mark is passed over before the HTML patterns are tried.
"""

from __future__ import annotations

import re

_GENERIC = frozenset(
    {
        "",
        "*/*",
        "unknown/unknown",
        "application/unknown",
        "application/octet-stream",
        "binary/octet-stream",
        "application/x-unknown",
        "content/unknown",
    }
)
_SNIFF_BYTES = 1445
_HTML = re.compile(
    rb"[\t\n\x0c\r ]*<(?:!--|(?:!doctype\ html|html|head|script|iframe|h1|div|font|table|a|style"
    rb"|title|b|body|br|p)[\x20>])",
    re.IGNORECASE,
)
_XML = re.compile(rb"[\t\n\x0c\r ]*<\?xml")
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_WIDE_BOMS = (b"\xfe\xff", b"\xff\xfe")


def effective_mime(declared: str, payload: bytes) -> str:
    """``declared`` (a type without parameters, lower case) unless it is generic, then sniffed.

    XML that declares itself XHTML in its first bytes counts as XHTML. An empty payload without
    a type has none: the empty string.
    """
    if declared not in _GENERIC:
        return declared
    return sniff(payload) if payload else declared


def sniff(payload: bytes) -> str:
    """``text/html``, ``application/xhtml+xml``, ``text/xml``, ``application/pdf``, ``text/plain``
    or ``application/octet-stream``, from the first 1,445 bytes."""
    head = payload[:_SNIFF_BYTES]
    if head.startswith(_WIDE_BOMS):
        return "text/plain"
    head = head.removeprefix(b"\xef\xbb\xbf")
    if _HTML.match(head):
        return "text/html"
    if _XML.match(head):
        return "application/xhtml+xml" if b"<html" in head.lower() else "text/xml"
    if head.startswith(b"%PDF-"):
        return "application/pdf"
    return "application/octet-stream" if _BINARY.search(head) else "text/plain"
