"""Rows of named fields, as JSONL and Parquet hold them, to documents."""

from __future__ import annotations

from collections.abc import Mapping

from filters.document import DeadLetter, Document, Value
from filters.robots import directives
from pipelines.sources.caps import Input
from pipelines.sources.page import agents

FIELD_OPTIONS = frozenset(
    {"text_field", "html_field", "url_field", "id_field", "language_field", "date_field"}
)
"""Options that name the field of a row; ``text_field`` is ``text`` unless ``html_field`` is set."""

_METADATA = {"id_field": "record_id", "language_field": "language", "date_field": "date"}
_DEFAULTS = {"url_field": "url", "date_field": "date", "language_field": "language"}


def wanted_fields(options: Mapping[str, str]) -> dict[str, str]:
    """Option name to field name, for all options that are set or have a default."""
    fields = {**_DEFAULTS, **{key: options[key] for key in FIELD_OPTIONS if key in options}}
    if "html_field" not in fields:
        fields.setdefault("text_field", "text")
    return fields


def row_document(
    row: Mapping[str, object], position: int, given: Input, where: str
) -> Document | DeadLetter:
    """The document of one row; a row whose text is missing or no string is a dead letter."""
    fields = wanted_fields(given.options)
    role = "html_field" if "html_field" in fields else "text_field"
    content = row.get(fields[role])
    if not isinstance(content, str):
        kind = "missing" if content is None else f"of type {type(content).__name__}, not a string"
        return given.dead(position, "MissingText", f"{where}: field {fields[role]!r} is {kind}")
    clean, lost = without_surrogates(content)
    size = len(clean.encode())
    if size > given.caps.max_expanded_bytes:
        return given.dead(
            position,
            "PageTooLarge",
            f"{where}: text of {size} bytes exceeds max_expanded_bytes = "
            f"{given.caps.max_expanded_bytes}",
        )
    is_html = role == "html_field"
    signals: dict[str, Value] = {
        "read.record_type": "row",
        "read.http_status": None,
        "read.mime": "text/html" if is_html else "text/plain",
        "read.bytes": size,
        "read.charset": "utf-8",
        "read.charset_source": "declared",
        "read.decode_loss": lost / len(clean) if clean else 0.0,
        "read.truncated": False,
    }
    stated = directives(clean if is_html else "", (), agents(given.options))
    signals.update({f"read.{name}": value for name, value in stated.items()})
    return Document(
        given.identify(position),
        _string(row.get(fields["url_field"])),
        given.source,
        text="" if is_html else clean,
        html=clean if is_html else "",
        signals=signals,
        metadata={
            name: value
            for option, name in _METADATA.items()
            if option in fields and (value := _string(row.get(fields[option])))
        },
    )


def without_surrogates(text: str) -> tuple[str, int]:
    """``text`` with lone surrogates, which no UTF-8 can hold, as U+FFFD, and how many they were."""
    try:
        text.encode()
    except UnicodeEncodeError:
        clean = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return clean, clean.count("\ufffd") - text.count("\ufffd")
    return text, 0


def _string(value: object) -> str:
    if value is None or isinstance(value, (dict, list)):
        return ""
    return without_surrogates(str(value))[0]
