"""Text as the trainer of a vocabulary may see it: segments across which no piece can reach.

SentencePiece splits only the digits of ASCII and their full-width forms, and passes over a whole
line that holds a tab, a null or one of the two signs it uses for itself. So text is cut at those,
and around each digit of any other script, before it gets there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tokenizer.special import WHITESPACE

MAX_CHARACTERS = 4096
"""Longer segments are cut at a space. The trainer holds positions in 16 bits."""

_OWN_SIGNS = "\u2581\u2585"
_CUT = re.compile(rf"[{''.join(WHITESPACE)}\r\0{_OWN_SIGNS}]+|((?![0-9\uff10-\uff19])\d)")


def segments(text: str) -> Iterator[str]:
    """The segments of a text, none of them empty, in order.

    All characters come back but newlines, tabs, carriage returns, nulls, U+2581 and U+2585, which
    are pieces of their own or bytes in every vocabulary.
    """
    for part in _CUT.split(text):
        if not part:
            continue
        start = 0
        while len(part) - start > MAX_CHARACTERS:
            space = part.rfind(" ", start + 1, start + MAX_CHARACTERS + 1)
            end = space if space > 0 else start + MAX_CHARACTERS
            yield part[start:end]
            start = end
        yield part[start:]
