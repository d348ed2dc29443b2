"""How likely a model finds texts: nats a token, however long the text and whatever the batch.

A text longer than a window is cut in pieces that overlap by half a window, and of each piece but
the first only the later half counts: every token has at least half a window before it, or all that
there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from tokenizer.packing import pack
from tokenizer.windows import Scored, overlapping
from trainer.loss import from_chunks, logits_of, next_tokens, to_chunks
from trainer.model import Params, Windows, hidden_states
from trainer.shape import Shape

Array = jax.Array
Ids = NDArray[Any]
ROWS_TOKENS = 2048
"""Tokens that are scored at a time."""


class Scorer:
    """Scores token sequences with one model, in windows of ``length``.

    Call it with sequences of ids; it gives a ``Scored`` for each, in order. ``seen`` is told the
    number of tokens scored, as work goes on.
    """

    def __init__(self, params: Mapping[str, Any], shape: Shape, length: int) -> None:
        """Raises ``ValueError`` for windows below 2."""
        if length < 2:
            raise ValueError(f"windows of {length} tokens; at least 2 are needed to predict one")
        self.shape = shape
        self._length = length
        self.use(params)
        self._score = jax.jit(partial(_token_nats, shape=shape))

    def use(self, params: Mapping[str, Any]) -> None:
        """Go on with other weights of the same model, without compiling again."""
        self._params = {name: jnp.asarray(value) for name, value in params.items()}

    def __call__(
        self, sequences: Sequence[Ids], seen: Callable[[int], None] | None = None
    ) -> list[Scored]:
        pieces = [
            (number, *piece)
            for number, ids in enumerate(sequences)
            for piece in overlapping(len(ids), self._length)
        ]
        lengths = np.array([end - start for _, start, end, _ in pieces], np.int64)
        nats = [np.zeros(max(0, len(ids) - 1), np.float32) for ids in sequences]
        first = [np.zeros(max(0, len(ids) - 1), np.bool_) for ids in sequences]
        for rows in self._batches(lengths):
            batch = self._gather(sequences, pieces, rows)
            found = [np.asarray(a) for a in self._score(self._params, batch)]
            for row, members in enumerate(rows):
                place = 0
                for member in members:
                    number, start, end, counted = pieces[member]
                    skip = counted - start
                    cut = slice(place + skip, place + end - start - 1)
                    nats[number][counted : end - 1] = found[0][row, cut]
                    first[number][counted : end - 1] = found[1][row, cut]
                    place += end - start
            if seen is not None:
                seen(int(sum(lengths[member] for members in rows for member in members)))
        return [Scored(a, b) for a, b in zip(nats, first, strict=True)]

    def _batches(self, lengths: NDArray[np.int64]) -> Iterator[list[list[int]]]:
        """Pieces by window, a few windows at a time; the last batch is filled with empty ones."""
        rows = max(1, ROWS_TOKENS // self._length)
        if not len(lengths):
            return
        packed = pack(lengths, self._length, "best-fit")
        members = np.split(packed.pieces["document"].astype(np.int64), packed.starts[1:-1])
        for at in range(0, packed.windows, rows):
            chosen = [m.tolist() for m in members[at : at + rows]]
            yield chosen + [[] for _ in range(rows - len(chosen))]

    def _gather(
        self, sequences: Sequence[Ids], pieces: Sequence[tuple[int, int, int, int]],
        rows: Sequence[Sequence[int]],
    ) -> Windows:  # fmt: skip
        shape = (len(rows), self._length)
        tokens, segments, positions = (np.zeros(shape, np.int32) for _ in range(3))
        for row, members in enumerate(rows):
            place = 0
            for segment, member in enumerate(members, 1):
                number, start, end, _ = pieces[member]
                cut = slice(place, place + end - start)
                tokens[row, cut] = sequences[number][start:end]
                segments[row, cut] = segment
                positions[row, cut] = np.arange(end - start)
                place += end - start
        return Windows(*(jnp.asarray(a) for a in (tokens, segments, positions)))


def _token_nats(params: Params, windows: Windows, shape: Shape) -> tuple[Array, Array]:
    """Nats of what follows each place, (rows, tokens), and whether it was the likeliest."""
    hidden = hidden_states(params, shape, windows)
    targets = next_tokens(windows.tokens, windows.segments).ids

    def one(at: tuple[Array, Array]) -> tuple[Array, Array]:
        logits = logits_of(at[0], params["embedding"])
        right = jnp.take_along_axis(logits, at[1][..., None], -1)[..., 0]
        return jax.nn.logsumexp(logits, -1) - right, logits.argmax(-1) == at[1]

    nats, first = jax.lax.map(one, (to_chunks(hidden), to_chunks(targets)))
    tokens = hidden.shape[1]
    return from_chunks(nats, tokens), from_chunks(first, tokens)
