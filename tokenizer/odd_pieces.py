"""Pieces that look wrong: what a vocabulary shows of dirt in the text it was trained on."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tokenizer.model import Tokenizer
from tokenizer.model_proto import Kind

RUN = 8
"""So many times the same character, but for spaces, is a run: rules, dot leaders, spam."""

_LEAD = "ÂÃÄÅÐÑâ"
ODD: Mapping[str, tuple[re.Pattern[str], str]] = {
    "mojibake": (
        re.compile(rf"[\x80-\x9f\ufffd]|[{_LEAD}][\xa0-\xbf€™œž‚„…†‡ˆ‰‹Œ‘’“”•–—˜š›Ÿ]"),
        "UTF-8 read as Latin-1 or Windows-1252, replacement signs, C1 controls",
    ),
    "e-mail": (
        re.compile(r"\w@|@\w|mailto|gmail|hotmail"),
        "fragments of e-mail addresses and handles",
    ),
    "URL": (
        re.compile(r"https?|www\.|://|\.(?:com|org|net|html?|php)\b"),
        "fragments of addresses of pages",
    ),
    "markup": (
        re.compile(r"&(?:nbsp|amp|lt|gt|quot|#\d)|</|/>|<br|\bhref\b|\bdiv\b.*[<>]"),
        "tags and entities that extraction left",
    ),
    "run": (re.compile(rf"([^ ])\1{{{RUN - 1},}}"), f"one character {RUN} times or more"),
    "invisible": (
        re.compile(r"[\xad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ue000-\uf8ff]"),
        "soft hyphens, zero-width, direction and private-use characters",
    ),
}
"""Name, pattern, and what it tells. A piece counts under the first that fits."""


def oddity(piece: str) -> str | None:
    """The name of what looks wrong about a piece, or ``None``."""
    return next((name for name, (pattern, _) in ODD.items() if pattern.search(piece)), None)


def odd_pieces(tokenizer: Tokenizer) -> dict[str, list[int]]:
    """The ids of pieces that look wrong, by what does; every name of ``ODD`` has its list."""
    found: dict[str, list[int]] = {name: [] for name in ODD}
    for number, (piece, kind) in enumerate(zip(tokenizer.pieces, tokenizer.kinds, strict=True)):
        name = oddity(piece) if kind is Kind.NORMAL else None
        if name is not None:
            found[name].append(number)
    return found
