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

from tokenizer.overlap import Scored, overlapping
from tokenizer.windows import share_windows, side_by_side
from trainer.loss import from_chunks, logits_of, next_tokens, to_chunks
from trainer.model import Params, Windows, hidden_states
from trainer.shape import Shape

Array = jax.Array
Ids = NDArray[Any]
ROWS_TOKENS = 2048
"""Tokens that are scored at a time."""

MAX_WINDOW = 1 << 15
"""Tokens of the longest window; AFM's longest stage has as many."""


class Scorer:
    """Scores token sequences with one model, in windows of ``length``.

    Call it with sequences of ids; it gives a ``Scored`` for each, in order. ``seen`` is told the
    number of tokens scored, as work goes on.
    """

    def __init__(self, params: Mapping[str, Any], shape: Shape, length: int) -> None:
        """Raises ``ValueError`` for windows below 2 or above ``MAX_WINDOW``."""
        if not 2 <= length <= MAX_WINDOW:
            raise ValueError(
                f"windows of {length} tokens; they must have at least 2, to predict one, and at "
                f"most {MAX_WINDOW}"
            )
        self.shape, self.length = shape, length
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
            for piece in overlapping(len(ids), self.length)
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
        rows = max(1, ROWS_TOKENS // self.length)
        if not len(lengths):
            return
        windows = share_windows(lengths, self.length)
        for at in range(0, len(windows), rows):
            chosen = windows[at : at + rows]
            yield chosen + [[] for _ in range(rows - len(chosen))]

    def _gather(
        self, sequences: Sequence[Ids], pieces: Sequence[tuple[int, int, int, int]],
        rows: Sequence[Sequence[int]],
    ) -> Windows:  # fmt: skip
        cut = [[sequences[number][start:end] for number, start, end, _ in (pieces[m] for m in own)]
               for own in rows]  # fmt: skip
        batch = side_by_side(cut, self.length)
        return Windows(*(jnp.asarray(batch[name]) for name in Windows._fields))


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
