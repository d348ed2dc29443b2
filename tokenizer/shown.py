"""A value of a file as messages show it: what is in a file may be long, or meant for a terminal."""

from __future__ import annotations

SHOWN = 80
"""Characters of a value that a message shows."""


def shown(value: object) -> str:
    """A value on one line, control characters escaped, cut to ``SHOWN`` characters."""
    found = ascii(value)
    return found if len(found) <= SHOWN else f"{found[:SHOWN]}..."
