"""The runtime's scores of token sequences, as what judges models takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from runtime.model import Model
from tokenizer.overlap import Scored
from trainer.bits import Scores
from trainer.scoring import Ids

GROUP = 64
"""Sequences at a time; what is found does not hang on it."""


def runtime_scores(model: Model, window: int) -> Scores:
    """Scores by a quantized model as it runs, with activations in 8 bits and the adapter in use.

    Args:
      window: tokens that the model sees at a time.
    """

    def scores(sequences: Sequence[Ids], seen: Callable[[int], None] | None = None) -> list[Scored]:
        found: list[Scored] = []
        for at in range(0, len(sequences), GROUP):
            group = [ids.tolist() for ids in sequences[at : at + GROUP]]
            found += model.score_ids(group, window=window)
            if seen is not None:
                seen(sum(map(len, group)))
        return found

    return scores
