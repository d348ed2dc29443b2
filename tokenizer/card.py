"""A tokenizer's card: what its vocabulary is made of, and what it makes of text it has not seen.

*Fertility* is tokens a word (Rust et al., "How Good is Your Tokenizer?", ACL 2021, section 3.2);
beside it stand tokens a character and a byte, which also mean something where no spaces stand
between words.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokenizer.model import Tokenizer
from tokenizer.model_proto import Kind
from tokenizer.odd_pieces import ODD, odd_pieces

_WORD = re.compile(r"\w+")
SHOWN = 40
"""Odd pieces of one sort that a card lists; all are counted."""


class Text(NamedTuple):
    """A text to measure on, with what it is reported under."""

    source: str
    language: str
    text: str


@dataclass
class Usage:
    """What a tokenizer made of some texts. Words are runs of letters and digits."""

    documents: int = 0
    bytes: int = 0
    characters: int = 0
    words: int = 0
    tokens: int = 0
    byte_tokens: int = 0

    def add(self, text: str, ids: NDArray[Any], byte_tokens: int) -> None:
        """Count one text."""
        self.documents += 1
        self.bytes += len(text.encode())
        self.characters += len(text)
        self.words += sum(1 for _ in _WORD.finditer(text))
        self.tokens += len(ids)
        self.byte_tokens += byte_tokens

    def facts(self) -> dict[str, float]:
        """Counts and the ratios that a card shows; a ratio of nothing is 0."""
        return {
            **vars(self),
            "tokens_per_word": _ratio(self.tokens, self.words),
            "tokens_per_character": _ratio(self.tokens, self.characters),
            "tokens_per_byte": _ratio(self.tokens, self.bytes),
            "bytes_per_token": _ratio(self.bytes, self.tokens),
            "byte_share": _ratio(self.byte_tokens, self.tokens),
        }


def _ratio(part: float, whole: float) -> float:
    return round(part / whole, 6) if whole else 0.0


@dataclass
class Measured:
    """Usage in all, by language and by source, and how often each piece was used."""

    uses: NDArray[np.int64]
    total: Usage = field(default_factory=Usage)
    languages: dict[str, Usage] = field(default_factory=dict)
    sources: dict[str, Usage] = field(default_factory=dict)


def measure(tokenizer: Tokenizer, texts: Iterable[Text]) -> Measured:
    """Encode texts and count."""
    found = Measured(np.zeros(tokenizer.vocab_size, np.int64))
    for row in texts:
        ids = tokenizer.encode(row.text)
        byte_tokens = int(tokenizer.is_byte[ids].sum())
        found.uses += np.bincount(ids, minlength=tokenizer.vocab_size)
        for usage in (
            found.total,
            found.languages.setdefault(row.language or "unknown", Usage()),
            found.sources.setdefault(row.source, Usage()),
        ):
            usage.add(row.text, ids, byte_tokens)
    return found


def card(tokenizer: Tokenizer, measured: Measured) -> dict[str, Any]:
    """The facts of a card, as JSON can hold them."""
    return {
        "vocabulary": vocabulary(tokenizer, measured.uses),
        "usage": measured.total.facts(),
        "languages": _rows(measured.languages),
        "sources": _rows(measured.sources),
        "odd": _odd(tokenizer, measured.uses),
    }


def _rows(usages: Mapping[str, Usage]) -> list[dict[str, Any]]:
    rows = [{"name": name, **usage.facts()} for name, usage in usages.items()]
    return sorted(rows, key=lambda row: (-row["bytes"], row["name"]))


def vocabulary(tokenizer: Tokenizer, uses: NDArray[np.int64]) -> dict[str, Any]:
    """What a vocabulary is made of: kinds, lengths and scripts of its pieces."""
    normal = [p for p, k in zip(tokenizer.pieces, tokenizer.kinds, strict=True) if k is Kind.NORMAL]
    is_normal = np.array([kind is Kind.NORMAL for kind in tokenizer.kinds])
    kinds = Counter(kind.name.lower() for kind in tokenizer.kinds)
    return {
        "size": tokenizer.vocab_size,
        "sha256": tokenizer.sha256,
        "kinds": dict(sorted(kinds.items())),
        "begin_with_a_space": sum(piece.startswith(" ") for piece in normal),
        "span_words": sum(" " in piece.strip(" ") for piece in normal),
        "single_characters": sum(len(piece) == 1 for piece in normal),
        "lengths": _counts(Counter(len(piece) for piece in normal)),
        "scripts": dict(Counter(map(script, normal)).most_common(20)),
        "not_used": int((uses[is_normal] == 0).sum()),
    }


def _counts(counter: Counter[int]) -> dict[str, int]:
    return {str(length): counter[length] for length in sorted(counter)}


def script(piece: str) -> str:
    """The script of a piece's first letter, by the first word of its Unicode name; or ``other``."""
    for character in piece:
        if character.isalpha():
            return unicodedata.name(character, "other").partition(" ")[0].lower()
    return "digit" if any(map(str.isdigit, piece)) else "other"


def _odd(tokenizer: Tokenizer, uses: NDArray[np.int64]) -> list[dict[str, Any]]:
    found = []
    for name, numbers in odd_pieces(tokenizer).items():
        listed = sorted(numbers, key=lambda number: (-uses[number], number))[:SHOWN]
        found.append(
            {
                "name": name,
                "meaning": ODD[name][1],
                "pieces": len(numbers),
                "uses": int(uses[numbers].sum()) if numbers else 0,
                "listed": [
                    {"id": n, "piece": tokenizer.pieces[n], "uses": int(uses[n])} for n in listed
                ],
            }
        )
    return found
