"""The encoding that markup declares about itself: the prescan of the HTML standard.

Source: WHATWG HTML, section 13.2.3.2 ("prescan a byte stream to determine its encoding", with
"get an attribute", "get an XML encoding" and "extracting a character encoding from a meta
element"). A declared UTF-16 means UTF-8 and x-user-defined means windows-1252, as there.
"""

from __future__ import annotations

import re

from webencodings.labels import LABELS

PRESCAN_BYTES = 1024
"""How much of the stream the standard looks at before parsing."""

LATE_META_BYTES = 1 << 16
"""How far a later ``meta`` is still honoured. Browsers honour one anywhere in the head, by parsing
again (WHATWG HTML, section 13.2.3.5, "changing the encoding while parsing")."""

_SPACE = b"\t\n\x0c\r "
_SKIP = re.compile(rb"[\t\n\x0c\r /]*")
_SPACES = re.compile(rb"[\t\n\x0c\r ]*")
_NAME = re.compile(rb"[^\t\n\x0c\r />][^\t\n\x0c\r />=]*")
_UNQUOTED = re.compile(rb"[^\t\n\x0c\r >]*")
_TAG_NAME_END = re.compile(rb"[\t\n\x0c\r >]")
_TAG_START = re.compile(rb"</?[A-Za-z]")
_META = re.compile(rb"<meta[\t\n\x0c\r /]", re.IGNORECASE)
_CONTENT_CHARSET = re.compile(
    rb"""charset[\t\n\x0c\r ]*=[\t\n\x0c\r ]*"""
    rb"""(?:"([^"]*)"|'([^']*)'|([^\t\n\x0c\r ;"'][^\t\n\x0c\r ;]*))""",
    re.IGNORECASE,
)
_XML_DECLARATION = re.compile(
    rb"""<\?xml[^>]*?encoding[\x00-\x20]*=[\x00-\x20]*(?:"([^"\x00-\x20>]*)"|'([^'\x00-\x20>]*)')"""
)


class _EndOfData(Exception):
    """The bytes ended inside a tag; what it declares must not be used."""


def encoding_for_label(label: str) -> str | None:
    """The WHATWG name (in lower case) for a label, or ``None``: Encoding, section 4.2."""
    return LABELS.get(label.strip("\t\n\x0c\r ").lower())


def declared_charset(payload: bytes) -> str | None:
    """The encoding that the markup in ``payload`` declares, as a WHATWG name, or ``None``."""
    found = prescan(payload[:PRESCAN_BYTES])
    if found is None and len(payload) > PRESCAN_BYTES:
        head = payload[:LATE_META_BYTES]
        if b"charset" in head.lower():
            found = prescan(head)
    return found


def prescan(head: bytes) -> str | None:
    """The standard's prescan over all of ``head``; a tag that ``head`` cuts off does not count."""
    if head.startswith(b"<\x00?\x00x\x00"):
        return "utf-16le"
    if head.startswith(b"\x00<\x00?\x00x"):
        return "utf-16be"
    try:
        found = _scan_tags(head)
    except _EndOfData:
        found = None
    return found or _xml_encoding(head)


def _scan_tags(head: bytes) -> str | None:
    position = head.find(b"<")
    while position >= 0:
        if head.startswith(b"<!--", position):
            # The two dashes that open the comment may also close it.
            end = head.find(b"-->", position + 2)
            if end < 0:
                return None
            position = end + 3
        elif _META.match(head, position):
            found, position = _meta(head, position + 5)
            if found is not None:
                return found
        elif _TAG_START.match(head, position):
            end_of_name = _TAG_NAME_END.search(head, position)
            if end_of_name is None:
                return None
            position = end_of_name.start()
            while True:
                attribute, position = _attribute(head, position)
                if attribute is None:
                    break
        elif head[position + 1 : position + 2] in {b"!", b"/", b"?"}:
            position = head.find(b">", position)
            if position < 0:
                return None
        else:
            position += 1
        position = head.find(b"<", position)
    return None


def _meta(head: bytes, position: int) -> tuple[str | None, int]:
    seen: set[bytes] = set()
    pragma = False
    need_pragma: bool | None = None
    charset: str | None = None
    failed = False
    while True:
        attribute, position = _attribute(head, position)
        if attribute is None:
            break
        name, value = attribute
        if name in seen:
            continue
        seen.add(name)
        if name == b"http-equiv":
            pragma = value == b"content-type"
        elif name == b"content" and charset is None and not failed:
            found = _charset_in_content(value)
            if found is not None:
                charset, need_pragma = found, True
        elif name == b"charset":
            charset = encoding_for_label(value.decode("latin-1"))
            failed = charset is None
            need_pragma = False
    if charset is None or need_pragma is None or (need_pragma and not pragma):
        return None, position
    return _as_declared(charset), position


def _as_declared(charset: str) -> str:
    if charset in {"utf-16le", "utf-16be"}:
        return "utf-8"
    return "windows-1252" if charset == "x-user-defined" else charset


def _attribute(head: bytes, position: int) -> tuple[tuple[bytes, bytes] | None, int]:
    """The next attribute of a tag as (name, value) in lower case, or ``None`` at its end."""
    position = _end(_SKIP, head, position)
    if head[position : position + 1] == b">":
        return None, position
    name = _NAME.match(head, position)
    if name is None:
        raise _EndOfData
    position = _end(_SPACES, head, name.end())
    if position >= len(head):
        raise _EndOfData
    if head[position : position + 1] != b"=":
        return (name[0].lower(), b""), position
    position = _end(_SPACES, head, position + 1)
    quote = head[position : position + 1]
    if quote in {b'"', b"'"}:
        end = head.find(quote, position + 1)
        if end < 0:
            raise _EndOfData
        return (name[0].lower(), head[position + 1 : end].lower()), end + 1
    end = _end(_UNQUOTED, head, position)
    if end >= len(head):
        raise _EndOfData
    return (name[0].lower(), head[position:end].lower()), end


def _end(pattern: re.Pattern[bytes], head: bytes, position: int) -> int:
    match = pattern.match(head, position)
    return match.end() if match else position


def _charset_in_content(content: bytes) -> str | None:
    match = _CONTENT_CHARSET.search(content)
    if match is None:
        return None
    label = next(group for group in match.groups() if group is not None)
    return encoding_for_label(label.decode("latin-1"))


def _xml_encoding(head: bytes) -> str | None:
    match = _XML_DECLARATION.match(head)
    if match is None:
        return None
    label = match[1] if match[1] is not None else match[2]
    found = encoding_for_label(label.decode("latin-1"))
    return None if found is None else _as_declared(found)
