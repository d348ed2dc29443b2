"""A small tokenizer for tests, trained once on prose and code that stay as they are.

``texts.jsonl.gz`` holds this project's documents and sources as they once were. What the tests'
models learn hangs on every piece, so that an edit of a document must not change the tokenizer.
"""

from __future__ import annotations

import functools
import gzip
import json
from collections.abc import Sequence
from pathlib import Path

from tokenizer.model import Tokenizer
from tokenizer.train import Settings, train, write_segments

ROOT = Path(__file__).resolve().parent.parent
TEXTS = Path(__file__).with_name("texts.jsonl.gz")
GREETINGS = "Grüße aus Köln, été à Paris, привет из Москвы, 東京からこんにちは, १२३ और ४५६. "


@functools.cache
def own_texts() -> tuple[str, ...]:
    """Prose and code that is always at hand."""
    with gzip.open(TEXTS, "rt", encoding="utf-8") as rows:
        return (*(json.loads(row)["text"] for row in rows), GREETINGS * 50)


def train_on(texts: Sequence[str], folder: Path, **settings: object) -> bytes:
    """The bytes of a model trained on texts."""
    path = folder / "segments.txt"
    write_segments(texts, str(path))
    return train(str(path), Settings(**{"vocab_size": 2000, **settings}))  # type: ignore[arg-type]


@functools.cache
def small_tokenizer() -> Tokenizer:
    """A tokenizer of 2,000 pieces; each test process trains its own, and all are the same."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return Tokenizer(train_on(own_texts(), Path(folder)))
