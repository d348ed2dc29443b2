"""Structured personal identifiers and secrets, replaced by typed and stable placeholders."""

from __future__ import annotations

from filters.pii.options import CATEGORIES, PiiOptions
from filters.pii.scrub import SIGNALS, measure, scrub

__all__ = ["CATEGORIES", "SIGNALS", "PiiOptions", "measure", "scrub"]
