"""From a curated corpus to a tokenizer: draw a sample, train, measure, write.

Beside the tokenizer of the corpus a second one is trained on what was read, rejected documents
included, so that the card can show what curation changed. Everything is measured on documents
that neither was trained on, where the corpus is large enough to spare some.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import sentencepiece

from pipelines import files, sample
from pipelines.corpus import Corpus
from pipelines.sample import Draw
from pipelines.tokenizer_page import render_card
from tokenizer import special
from tokenizer.card import Text, card, measure
from tokenizer.export import tokenizer_config, tokenizer_json
from tokenizer.model import Tokenizer
from tokenizer.train import Settings, train, write_segments

FORMAT = 1
HELD_OUT = 16
"""One part in so many of the training text is drawn besides, to measure on."""

UNFILTERED = "unfiltered"
FILES = ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "card.html", "card.json")
"""What is written, in this order: the last vouches for the others."""

Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Plan:
    """What to train on what: ``shares`` gives each group of sources its share of the bytes."""

    corpus: Corpus
    settings: Settings
    budget: int
    seed: int
    shares: Mapping[str, float]
    groups: Mapping[str, tuple[str, ...]]
    compare: bool

    def draws(self) -> list[Draw]:
        """The samples to take: what is trained on, and the held-out part besides."""
        whole = self.budget + self.budget // HELD_OUT
        found = [
            Draw(name, max(1, int(whole * share)), ("documents",), self.groups[name])
            for name, share in sorted(self.shares.items())
        ]
        if self.compare:
            sources = tuple(
                sorted({t.source for t in (*self.corpus.documents, *self.corpus.rejected)})
            )
            found.append(Draw(UNFILTERED, whole, ("documents", "rejected"), sources))
        return found

    @property
    def state(self) -> str:
        """What the tokenizer depends on; the same state gives the same files."""
        content = {
            "format": FORMAT,
            "corpus": self.corpus.digest,
            "rejected": sorted(table.sha256 for table in self.corpus.rejected if self.compare),
            "settings": self.settings.for_sentencepiece(),
            "budget": self.budget,
            "seed": self.seed,
            "shares": dict(sorted(self.shares.items())),
            "groups": {name: list(sources) for name, sources in sorted(self.groups.items())},
            "compare": self.compare,
            "sentencepiece": sentencepiece.__version__,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Drawn:
    """A sample in two: what is trained on, and what is measured on."""

    training: pa.Table
    held_out: pa.Table


def split(drawn: pa.Table, budget: int) -> Drawn:
    """Cut a draw, in order of priority, where the training text has its bytes.

    The document at the cut is trained on in whole, so that none is on both sides.
    """
    size = end = 0
    for text in drawn["text"]:
        if size >= budget:
            break
        size += len(text.as_py().encode())
        end += 1
    return Drawn(drawn.slice(0, end), drawn.slice(end))


def train_all(plan: Plan, paths: Sequence[str], progress: Progress) -> dict[str, bytes]:
    """Train and measure; gives the contents of the files to write, by name.

    ``paths`` are the files of the sample. Raises ``tokenizer.train.TrainingFailed``.
    """
    parts = [
        split(sample.read_draw(paths, name), int(plan.budget * share))
        for name, share in sorted(plan.shares.items())
    ]
    own = pa.concat_tables([part.training for part in parts])
    held_out = pa.concat_tables([part.held_out for part in parts])
    training = {"curated": own}
    if plan.compare:
        training[UNFILTERED] = split(sample.read_draw(paths, UNFILTERED), plan.budget).training
    models = {
        name: Tokenizer(_train(name, table, plan.settings, progress))
        for name, table in training.items()
    }
    measured_on = held_out if held_out.num_rows else own
    cards = {
        name: card(model, measure(model, _texts(measured_on))) for name, model in models.items()
    }
    facts = {
        "format": FORMAT,
        "state": plan.state,
        "settings": {**plan.settings.for_sentencepiece(), "seed": plan.seed, "bytes": plan.budget},
        "shares": dict(sorted(plan.shares.items())),
        "samples": {name: _sample_facts(table) for name, table in training.items()},
        "held_out": held_out.num_rows > 0,
        "cards": cards,
    }
    facts["settings"]["control_symbols"] = f"{special.MASK} and {len(special.RESERVED)} reserved"
    tokenizer = models["curated"]
    contents = (
        tokenizer.content,
        tokenizer_json(tokenizer),
        tokenizer_config(tokenizer),
        render_card(facts).encode(),
        _json(facts),
    )
    return dict(zip(FILES, contents, strict=True))


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode()


def _train(name: str, table: pa.Table, settings: Settings, progress: Progress) -> bytes:
    progress(name, 0)
    with tempfile.TemporaryDirectory(prefix="cidermill-") as folder:
        path = os.path.join(folder, "segments.txt")
        write_segments((text.as_py() for text in table["text"]), path)
        return train(path, settings, lambda merges: progress(name, merges))


def _texts(table: pa.Table) -> Iterator[Text]:
    for batch in table.to_batches(max_chunksize=256):
        for row in batch.to_pylist():
            yield Text(row["source"], row["language"], row["text"])


def _sample_facts(table: pa.Table) -> dict[str, Any]:
    sizes: Counter[str] = Counter()
    for source, text in zip(table["source"], table["text"], strict=True):
        sizes[source.as_py()] += len(text.as_py().encode())
    return {
        "documents": table.num_rows,
        "bytes": sum(sizes.values()),
        "sources": dict(sorted(sizes.items())),
    }


def write(folder: str, contents: Mapping[str, bytes]) -> None:
    """Write the files in their order."""
    for name, content in contents.items():
        files.write_bytes(files.join(folder, name), content)


def current(folder: str, state: str) -> dict[str, Any] | None:
    """The card in a folder where it is of this state and the model is there, or ``None``."""
    try:
        found: dict[str, Any] | None = files.find_json(files.join(folder, "card.json"))
    except ValueError:
        return None
    if found is None or found.get("state") != state:
        return None
    if not all(files.exists(files.join(folder, name)) for name in FILES):
        return None
    expected = found["cards"]["curated"]["vocabulary"]["sha256"]
    return found if files.sha256(files.join(folder, FILES[0])) == expected else None
