"""A small tokenizer for tests, trained once on the project's own documents and sources."""

from __future__ import annotations

import functools
from pathlib import Path

from tokenizer.model import Tokenizer
from tokenizer.train import Settings, train, write_segments

ROOT = Path(__file__).resolve().parent.parent
GREETINGS = "Grüße aus Köln, été à Paris, привет из Москвы, 東京からこんにちは, १२३ और ४५६. "


def own_texts() -> list[str]:
    """Prose and code that is always at hand."""
    paths = [*sorted(ROOT.glob("docs/*.md")), *sorted((ROOT / "filters").glob("*.py"))]
    return [*(path.read_text("utf-8") for path in paths), GREETINGS * 50]


def train_on(texts: list[str], folder: Path, **settings: object) -> bytes:
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
