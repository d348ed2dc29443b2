"""The data model: what a document is and what can happen to it.

Everything that happens to a document is one of three verbs. *Measure* adds named values to
``Document.signals``; *decide* holds a signal against a bound and yields a ``Decision``; *edit*
changes the text and yields ``Edit`` rows. What cannot be processed becomes a ``DeadLetter``.
None of this knows about Beam, files or recipes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Value = float | int | bool | str | None
"""What a signal can hold. ``None`` means: not measured on this document."""

Action = Literal["drop", "tag", "edit"]


@dataclass(slots=True)
class Document:
    """One document, from the record it was read from to the text that is kept.

    ``html`` is the decoded markup; it lives only until the stages that look at markup have run
    and is never stored. ``text`` is empty until extraction. ``language`` is an ISO 639 code, or
    the empty string until measured. ``metadata`` holds strings that describe the record (title,
    date, MIME type) and are not measured.
    """

    id: str
    url: str
    source: str
    text: str = ""
    language: str = ""
    signals: dict[str, Value] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    html: str = ""
    derived: Any = None
    """What stages share about the present text (its words and lines); never stored."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A rule that a document did not meet, with what was measured and what was asked.

    ``action`` tells whether the rule removed the document (``drop``) or only marked it
    (``tag``). ``evidence`` is a short piece of what was found, never personal data.
    """

    document: str
    stage: str
    rule: str
    value: Value
    bound: str
    action: Action
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Edit:
    """A span of the text as it stood before the stage ran, and why it was replaced.

    ``start`` and ``end`` count Unicode code points; ``replacement`` is what stands there now
    (empty where the span was removed). ``evidence`` is never personal data.
    """

    stage: str
    reason: str
    start: int
    end: int
    replacement: str = ""
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be processed. ``message`` never holds text of the document.

    ``url`` is set where the record's header was read but no document came of it.
    """

    record: str
    stage: str
    error: str
    message: str
    url: str = ""
