"""Tokenize and pack on the fly, while reading JSONL or Parquet: no shards on disk.

After OpenELM (arXiv 2404.14619, section 2.2 and its training code): texts of fewer than 200
characters, punctuation and repeated white space aside, and of fewer than 256 tokens are left out.
Its code cuts texts in pieces of 2,048 words and throws away what goes beyond a window; here texts
follow each other and are cut where a window is full, so that only the thresholds cost anything.
``Costs`` tells what.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokenizer.model import Tokenizer
from tokenizer.permutation import Permutation
from tokenizer.reader import Batch, StateError
from tokenizer.special import EOS_ID
from tokenizer.texts import read_texts
from tokenizer.windows import side_by_side

MIN_CHARACTERS = 200
MIN_TOKENS = 256
STATE_VERSION = 1

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SPACE = re.compile(r"\s+")


@dataclass
class Costs:
    """What was read, what the thresholds left out, and what was packed."""

    min_characters: int = MIN_CHARACTERS
    min_tokens: int = MIN_TOKENS
    documents: int = 0
    characters: int = 0
    short_documents: int = 0
    short_characters: int = 0
    few_documents: int = 0
    few_characters: int = 0
    tokens: int = 0
    padding: int = 0

    def lines(self) -> list[str]:
        """The costs as a table for people."""
        kept = self.documents - self.short_documents - self.few_documents
        rows = (
            ("read", self.documents, self.characters),
            ("too few characters", self.short_documents, self.short_characters),
            ("too few tokens", self.few_documents, self.few_characters),
            ("packed", kept, self.characters - self.short_characters - self.few_characters),
        )
        head = f"{'':<20}{'documents':>12}{'share':>8}{'characters':>16}{'share':>8}"
        return [
            head,
            *(
                f"{name:<20}{documents:>12}{_share(documents, self.documents):>8}"
                f"{characters:>16}{_share(characters, self.characters):>8}"
                for name, documents, characters in rows
            ),
            f"{self.tokens} tokens, {self.padding} places of padding",
        ]

    def left_out(self) -> str:
        """What the thresholds left out, in a few words."""
        return (
            f"of {self.documents} documents {self.short_documents} have fewer than "
            f"{self.min_characters} characters, and {self.few_documents} fewer than "
            f"{self.min_tokens} tokens; the others have {self.tokens} tokens"
        )


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""


def plain_length(text: str) -> int:
    """Characters without ASCII punctuation, runs of white space as one: SlimPajama's measure."""
    return len(_SPACE.sub(" ", text.lower().translate(_PUNCTUATION)))


class _Place(NamedTuple):
    """Where in the stream a token stands: file by its turn, row of the file, token of the row."""

    turn: int
    row: int
    offset: int


class TextStream:
    """Windows of texts, tokenized as they are read: batches as ``tokenizer.reader`` gives them.

    The order of files is shuffled by the seed; every host reads files of its own, so there should
    be many more files than hosts. ``costs`` counts what this process has read.
    """

    def __init__(
        self,
        paths: Sequence[str],
        tokenizer: Tokenizer,
        *,
        length: int,
        batch: int = 1,
        field: str = "text",
        min_characters: int = MIN_CHARACTERS,
        min_tokens: int = MIN_TOKENS,
        seed: int = 0,
        host: int = 0,
        hosts: int = 1,
    ) -> None:
        """``min_tokens`` counts the eos.

        Raises:
          ValueError: no file for a host, a window below 2, or a batch below 1.
        """
        if not 0 <= host < hosts or len(paths) < hosts:
            raise ValueError(f"host {host} of {hosts} with {len(paths)} files; each needs one")
        if length < 2 or batch < 1:
            raise ValueError(f"windows of {length} in batches of {batch}; at least 2 and 1")
        ordered = sorted(paths)
        order = Permutation(len(ordered), f"files/{seed}")
        shuffled = [ordered[order[turn]] for turn in range(len(ordered))]
        self._paths = shuffled[host::hosts]
        self._tokenizer = tokenizer
        self._length, self._batch, self._field = length, batch, field
        self._min_characters, self._min_tokens = min_characters, min_tokens
        self._place = _Place(0, 0, 0)
        self.costs = Costs(min_characters, min_tokens)

    def __iter__(self) -> Iterator[Batch]:
        """Batches from the present place on; the last may be smaller, its last window padded."""
        rows: list[list[NDArray[Any]]] = []
        places: list[_Place] = []
        for pieces, after in self._windows():
            rows.append(pieces)
            places.append(after)
            if len(rows) == self._batch:
                self._place = places[-1]
                yield side_by_side(rows, self._length)
                rows, places = [], []
        if rows:
            self._place = places[-1]
            yield side_by_side(rows, self._length)

    def _windows(self) -> Iterator[tuple[list[NDArray[Any]], _Place]]:
        """The pieces of each window, and the place behind it."""
        pieces: list[NDArray[Any]] = []
        room = self._length
        end = self._place
        for place, ids in self._documents():
            offset = place.offset
            while offset < len(ids):
                piece = ids[offset : offset + room]
                pieces.append(piece)
                offset += len(piece)
                room -= len(piece)
                end = place._replace(offset=offset)
                if not room:
                    yield pieces, end
                    pieces, room = [], self._length
        if pieces:
            self.costs.padding += room
            yield pieces, end

    def _documents(self) -> Iterator[tuple[_Place, NDArray[Any]]]:
        """Tokens of the documents that pass, from the present place on."""
        begin = self._place
        for turn in range(begin.turn, len(self._paths)):
            first = begin.row if turn == begin.turn else 0
            texts = read_texts(self._paths[turn], self._field, first)
            for row, text in enumerate(texts, first):
                ids = self._encode(text)
                if ids is not None:
                    resumed = (turn, row) == begin[:2]
                    yield _Place(turn, row, begin.offset if resumed else 0), ids

    def _encode(self, text: str) -> NDArray[Any] | None:
        costs = self.costs
        costs.documents += 1
        costs.characters += len(text)
        if plain_length(text) < self._min_characters:
            costs.short_documents += 1
            costs.short_characters += len(text)
            return None
        ids = np.append(self._tokenizer.encode(text), EOS_ID)
        if len(ids) < self._min_tokens:
            costs.few_documents += 1
            costs.few_characters += len(text)
            return None
        costs.tokens += len(ids)
        return ids

    # --- state ----------------------------------------------------------------------------------

    def _identity(self) -> str:
        content = [
            [[os.path.basename(path), os.path.getsize(path)] for path in self._paths],
            self._tokenizer.sha256, self._length, self._field,
            self._min_characters, self._min_tokens,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def get_state(self) -> dict[str, Any]:
        """The place behind the last batch, as JSON can hold it."""
        return {
            "version": STATE_VERSION,
            "stream": self._identity(),
            **self._place._asdict(),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a place: what follows is what would have followed there.

        Raises:
          StateError: the state is of other files, another tokenizer or other settings, or damaged.
        """
        if state.get("version") != STATE_VERSION:
            raise StateError("this is no state of a stream of texts, or of another version")
        if state.get("stream") != self._identity():
            raise StateError(
                "this state belongs to another stream: other files, another tokenizer, seed, host "
                "or threshold; give the stream those it was saved with"
            )
        values = [state.get(name) for name in _Place._fields]
        numbers = [value for value in values if isinstance(value, int) and value >= 0]
        if len(numbers) != len(values):
            raise StateError(f"a damaged state: the place {values}")
        self._place = _Place(*numbers)
