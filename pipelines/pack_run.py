"""What workers must know to turn a corpus into token shards, and where the files lie."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipelines import files
from pipelines.corpus import Unit
from pipelines.resources import local_copy
from tokenizer.mixture import LONG
from tokenizer.model import Tokenizer

FORMAT = 1
SHARD_TOKENS = 1 << 25
"""A shard has about so many tokens, 64 MB of two bytes each; a worker holds one in memory."""

HANG_SECONDS = 600.0


@dataclass(frozen=True)
class PackRun(files.CarriesStore):
    """How a corpus is packed. ``tokenizer`` is where workers find the model, whose digest follows.

    Documents of at least ``long_tokens`` go to a source of their own. ``cut`` is ``newline`` or
    ``window``. ``seed`` shuffles the documents of a shard. ``held_out`` is where workers find the
    documents that are set aside, if any are; before that is known, ``held_out_rates`` tells the
    share of each source's documents that are candidates.
    """

    work: str
    target: str
    tokenizer: str
    tokenizer_sha256: str
    sequence_length: int
    method: str = "best-fit"
    cut: str = "newline"
    long_tokens: int | None = None
    shard_tokens: int = SHARD_TOKENS
    seed: int = 0
    held_out: str | None = None
    held_out_sha256: str = ""
    held_out_rates: tuple[tuple[str, float], ...] = ()
    store: tuple[tuple[str, Any], ...] = ()

    @property
    def hang_seconds(self) -> float:
        """A worker that is silent for so long and some more is ended."""
        return HANG_SECONDS

    def in_workers(self) -> PackRun:
        """The same: workers need nothing of their own."""
        return self

    def forgive(self, task: str, item: Any) -> None:
        """Nothing to take back: no attempt at packing is noted."""

    def load_tokenizer(self) -> Tokenizer:
        """The tokenizer, loaded once a process from this machine's copy."""
        return _load(self.tokenizer, self.tokenizer_sha256)

    # --- places -----------------------------------------------------------------------------

    def unit_file(self, unit: Unit, ending: str) -> str:
        """A file of a tokenized unit; it depends on the tokenizer, the table, and what is set
        aside."""
        aside = f"-{self.held_out_sha256[:16]}" if self.held_out else ""
        folder = files.join(self.work, "tokens", f"{self.tokenizer_sha256[:16]}-{FORMAT}{aside}")
        return files.join(folder, f"{unit.key}-{unit.sha256[:16]}.{ending}")

    def aside_file(self, unit: Unit) -> str:
        """What a unit sets aside; it depends on the rates and the table."""
        rates = hashlib.sha256(repr(self.held_out_rates).encode()).hexdigest()[:16]
        folder = files.join(self.work, "held-out", rates)
        return files.join(folder, f"{unit.key}-{unit.sha256[:16]}.parquet")

    def entry_file(self, group: Group) -> str:
        """The state of a shard and what the index will say of it; there while its files are whole.

        One file for each name of a shard in a target, so that no other settings leave an entry
        behind that vouches for files which these have overwritten.
        """
        target = hashlib.sha256(self.target.encode()).hexdigest()[:16]
        return files.join(self.work, "packed", target, f"{group.key}.json")

    def state(self, group: Group) -> str:
        """What a shard depends on."""
        settings = {
            "format": FORMAT,
            "tokenizer": self.tokenizer_sha256,
            "length": self.sequence_length,
            "method": self.method,
            "cut": self.cut,
            "long_tokens": self.long_tokens,
            "seed": self.seed,
            "held_out": self.held_out_sha256,
            "group": group.to_json(),
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    def class_of(self, source: str, tokens: int) -> str:
        """The source that a document is packed under."""
        long = self.long_tokens is not None and tokens >= self.long_tokens
        return source + LONG if long else source


@dataclass(frozen=True)
class Group:
    """The units that become one shard: ``key`` is its name, ``size`` its tokens."""

    key: str
    source: str
    size: int
    units: tuple[Unit, ...]

    @property
    def name(self) -> str:
        """What to call it."""
        return self.key

    @property
    def place(self) -> str:
        """For a message: the shard that it becomes."""
        return f"shard {self.key}"

    def to_json(self) -> str:
        """The form in which a group travels through the graph."""
        return json.dumps(
            {**asdict(self), "units": [asdict(unit) for unit in self.units]}, sort_keys=True
        )

    @classmethod
    def from_json(cls, text: str) -> Group:
        """The inverse of ``to_json``."""
        fields = json.loads(text)
        return cls(**{**fields, "units": tuple(Unit(**unit) for unit in fields["units"])})


@dataclass(frozen=True)
class Tokenized:
    """A unit that is tokenized, and how many tokens it has of one class of documents."""

    source: str
    tokens: int
    unit: Unit


def make_groups(source: str, found: Sequence[Tokenized], shard_tokens: int) -> list[Group]:
    """Share the units of a source out to shards, in order of their keys.

    A shard is closed when it has its tokens; what is left for the last, if it is less than half a
    shard, joins the one before, so that no small shard leaves padding.
    """
    members: list[list[Tokenized]] = [[]]
    for item in sorted(found, key=lambda item: item.unit.key):
        if sum(one.tokens for one in members[-1]) >= shard_tokens:
            members.append([])
        members[-1].append(item)
    if len(members) > 1 and sum(one.tokens for one in members[-1]) < shard_tokens // 2:
        last = members.pop()
        members[-1].extend(last)
    return [
        Group(
            f"{source}-{number:05d}",
            source,
            sum(one.tokens for one in group),
            tuple(one.unit for one in group),
        )
        for number, group in enumerate(members)
        if group
    ]


@functools.lru_cache(maxsize=1)
def _load(staged: str, digest: str) -> Tokenizer:
    return Tokenizer.load(local_copy(staged, digest))
