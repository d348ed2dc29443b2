"""The form in which texts are shown to our classifiers, in training and in use."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+|[.,;:!?$€£%|»>/@#*]")


def tokens(text: str) -> list[str]:
    """Lower-case words, numbers as ``0`` for each digit, and the punctuation that tells prose
    from lists."""
    lowered = text.lower().encode("utf-8", "replace").decode("utf-8")
    return ["0" * len(t) if t.isdigit() else t for t in _TOKEN.findall(lowered)]
