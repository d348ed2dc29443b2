"""From a payload to a document: MIME type, character encoding, robots directives, signals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from filters.charset import decode
from filters.document import DeadLetter, Document, Value
from filters.mime import effective_mime
from filters.record_signals import HTML_TYPES, TEXT_TYPES
from filters.robots import directives
from pipelines.sources.caps import Input


def agents(options: Mapping[str, str]) -> list[str]:
    """The user agent tokens of the option ``robots_agents``, separated by commas."""
    return [agent.strip() for agent in options.get("robots_agents", "").split(",") if agent.strip()]


def page_document(
    given: Input,
    position: int,
    *,
    url: str,
    record_type: str,
    payload: bytes,
    declared_mime: str,
    http_charset: str | None = None,
    http_status: int | None = None,
    truncated: bool = False,
    robots_headers: Iterable[str] = (),
    metadata: dict[str, str],
    decode_payload: bool = True,
) -> Document | DeadLetter:
    """A document with its text or markup decoded, or a dead letter where it exceeds the caps.

    A payload that is neither HTML nor plain text gives a document without text: which MIME types
    are wanted is for the rules to say. So does ``decode_payload=False``, for records that hold no
    page.
    """
    caps = given.caps
    mime = effective_mime(declared_mime, payload)
    is_html = decode_payload and mime in HTML_TYPES
    is_text = decode_payload and mime in TEXT_TYPES
    if (is_html or is_text) and len(payload) > caps.max_html_bytes:
        return given.dead(
            position,
            "PageTooLarge",
            f"{mime} page of {len(payload)} bytes exceeds max_html_bytes = {caps.max_html_bytes}",
        )
    signals: dict[str, Value] = {
        "read.record_type": record_type,
        "read.http_status": http_status,
        "read.mime": mime,
        "read.bytes": len(payload),
        "read.charset": None,
        "read.charset_source": None,
        "read.decode_loss": None,
        "read.truncated": truncated,
    }
    document = Document(given.identify(position), url, given.source, metadata=metadata)
    if is_html or is_text:
        decoded = decode(payload, http_charset, html=is_html)
        signals["read.charset"] = decoded.charset
        signals["read.charset_source"] = decoded.source
        signals["read.decode_loss"] = decoded.loss
        if is_html:
            document.html = decoded.text
        else:
            document.text = decoded.text
    stated = directives(document.html, robots_headers, agents(given.options))
    signals.update({f"read.{name}": value for name, value in stated.items()})
    document.signals = signals
    return document
