"""Bits per byte of texts, by source and by language: what a model is judged by.

A byte costs the same whatever tokenizer cut it, so that models of different vocabularies compare.
The model has no token before a document's first, so that token is given and its bytes are not
counted; nor is the end of the document, which has none.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenizer.model import Tokenizer
from tokenizer.overlap import Scored
from trainer.scoring import Ids

ALL = "all"

Scores = Callable[[Sequence[Ids], Callable[[int], None] | None], list[Scored]]
"""What a ``Scorer`` is called like: sequences of ids, and who is told of work done."""


@dataclass(frozen=True)
class Text:
    """A document to be judged on: its tokens, and the bytes of text of each, the first aside."""

    source: str
    language: str
    ids: Ids
    bytes: int


@dataclass
class Bits:
    """Bits and bytes of some documents, and of how many tokens the model's choice was right."""

    documents: int = 0
    bits: float = 0.0
    bytes: int = 0
    tokens: int = 0
    right: int = 0

    @property
    def per_byte(self) -> float:
        """Bits per byte; not a number where there is no byte."""
        return self.bits / self.bytes if self.bytes else math.nan

    @property
    def accuracy(self) -> float:
        """The share of tokens that the model found likeliest; not a number where there is none."""
        return self.right / self.tokens if self.tokens else math.nan

    def add(self, text: Text, scored: Scored) -> None:
        """Count one document."""
        self.documents += 1
        self.bits += float(scored.nats.sum(dtype="float64")) / math.log(2)
        self.bytes += text.bytes
        self.tokens += len(scored.nats)
        self.right += int(scored.first.sum())

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "bits_per_byte": self.per_byte,
            "accuracy": self.accuracy,
            "documents": self.documents,
            "bytes": self.bytes,
            "tokens": self.tokens,
        }


@dataclass(frozen=True)
class Judgement:
    """Bits of all documents, of each source, and of each language."""

    total: Bits
    sources: Mapping[str, Bits]
    languages: Mapping[str, Bits]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            **self.total.to_dict(),
            "sources": {name: found.to_dict() for name, found in self.sources.items()},
            "languages": {name: found.to_dict() for name, found in self.languages.items()},
        }


def prepare(rows: Iterable[Mapping[str, Any]], tokenizer: Tokenizer) -> list[Text]:
    """Documents with ``text``, ``source`` and ``language`` as tokens; those of one token have
    nothing to be judged on, and are left out."""
    sizes = tokenizer.byte_lengths
    found = []
    for row in rows:
        ids = tokenizer.encode(row["text"])
        if len(ids) > 1:
            found.append(_text(row["source"] or "", row["language"] or "", ids, sizes))
    return found


def digest(texts: Sequence[Text]) -> str:
    """The SHA-256 of what texts are judged on, in order."""
    found = hashlib.sha256()
    for text in texts:
        found.update(json.dumps([text.source, text.language, text.bytes, len(text.ids)]).encode())
        found.update(np.asarray(text.ids, "<i4").tobytes())
    return found.hexdigest()


def shorten(texts: Sequence[Text], length: int, most: int, tokenizer: Tokenizer) -> list[Text]:
    """The first ``length`` tokens of each document, of as many of the first documents as together
    have at most ``most``; one at least."""
    sizes = tokenizer.byte_lengths
    found: list[Text] = []
    tokens = 0
    for text in texts:
        ids = text.ids[:length]
        tokens += len(ids)
        if tokens > most and found:
            break
        found.append(_text(text.source, text.language, ids, sizes))
    return found


def _text(source: str, language: str, ids: Ids, sizes: NDArray[np.int64]) -> Text:
    return Text(source, language, ids, int(sizes[ids[1:]].sum()))


def judge(
    scorer: Scores, texts: Sequence[Text], seen: Callable[[int], None] | None = None
) -> Judgement:
    """Score documents, and sum bits by source and language."""
    total = Bits()
    sources: dict[str, Bits] = {}
    languages: dict[str, Bits] = {}
    for text, scored in zip(texts, scorer([text.ids for text in texts], seen), strict=True):
        for bits in (total, sources.setdefault(text.source, Bits()),
                     languages.setdefault(text.language, Bits())):  # fmt: skip
            bits.add(text, scored)
    return Judgement(total, dict(sorted(sources.items())), dict(sorted(languages.items())))


def lines(judgement: Judgement, before: Mapping[str, Any] | None = None) -> list[str]:
    """The judgement as a table for people.

    With ``before``, what ``Judgement.to_dict`` gave of the same documents earlier, a column tells
    their bits per byte then.
    """
    head = f"{'':<24}{'documents':>10}{'bytes':>12}{'accuracy':>10}{'bits/byte':>11}"
    rows = [head if before is None else f"{head}{'before':>11}"]
    for name, bits, earlier in _rows(judgement, before or {}):
        row = (
            f"{name:<24}{bits.documents:>10}{bits.bytes:>12}{bits.accuracy:>10.1%}"
            f"{bits.per_byte:>11.4f}"
        )
        rows.append(row if before is None else f"{row}{earlier['bits_per_byte']:>11.4f}")
    return rows


def _rows(
    judgement: Judgement, before: Mapping[str, Any]
) -> Iterator[tuple[str, Bits, Mapping[str, Any]]]:
    """The name of each row, its bits, and what it was before."""
    for name, bits in judgement.sources.items():
        yield name or "?", bits, before.get("sources", {}).get(name)
    for name, bits in judgement.languages.items():
        yield f"language {name or '?'}", bits, before.get("languages", {}).get(name)
    yield ALL, judgement.total, before
