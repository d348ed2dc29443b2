"""How well a model knows the completions of some prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.bits import Scores
from trainer.examples import Example


@dataclass(frozen=True)
class Known:
    """What a model makes of some completions.

    Args:
      tokens: of the completions, their ends among them.
      bytes: of the completions' texts.
      loss: nats a token.
      bits_per_byte: of the texts; their ends, which have no byte, are not counted.
      exact: the share of completions that the model itself gives, to the end, when it takes the
        likeliest token each time.
    """

    examples: int
    tokens: int
    bytes: int
    loss: float
    bits_per_byte: float
    exact: float


def judge(
    scores: Scores, examples: Sequence[Example], seen: Callable[[int], None] | None = None
) -> Known:
    """Score some examples, one at least. ``seen`` is told the number of tokens, as work goes on."""
    nats = text_nats = 0.0
    tokens = exact = 0
    scored = scores([example.ids for example in examples], seen)
    for example, found in zip(examples, scored, strict=True):
        # A text's first token is given, so that each has its own number one place before.
        own = found.nats[example.first - 1 :].astype(np.float64)
        nats, text_nats = nats + own.sum(), text_nats + own[:-1].sum()
        tokens += len(own)
        exact += bool(found.first[example.first - 1 :].all())
    size = sum(len(example.completion.encode()) for example in examples)
    return Known(
        len(examples), tokens, size, float(nats / tokens), float(text_nats / math.log(2) / size),
        exact / len(examples),
    )  # fmt: skip
