"""Which token comes next: greedy, or drawn from what temperature, top-k, top-p and min-p leave.

The order is that of Hugging Face's generation: penalty, temperature, top-k, top-p, min-p. Top-p is
nucleus sampling (Holtzman et al., arXiv 1904.09751), min-p is after Nguyen et al. (arXiv
2407.01082), the penalty is CTRL's (Keskar et al., arXiv 1909.05858, section 4.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokenizer.special import EOS_ID, FIXED, WHITESPACE

FIRST_TEXT = FIXED - 256 - len(WHITESPACE)
"""Ids below are no text: of them only the end of a document may be drawn."""

MAX_TOKENS = 1 << 20
MAX_PENALTY = 100.0
"""Beyond this, or below one over it, nothing of a logit is left, or nothing else matters."""
FAR = 1e300
"""Scores are held within this, so that differences of two are finite."""


@dataclass(frozen=True)
class Sampling:
    """How to draw.

    Args:
      temperature: 0 takes the likeliest token, the first of equals.
      top_k: only so many of the likeliest; 0 for all.
      top_p: only the likeliest that together reach this share; 1 for all.
      min_p: only those at least this share of the likeliest's probability; 0 for all.
      repetition_penalty: what logits of tokens are divided by (if above 0, else multiplied) that
        the text holds already, from 0.01 to 100; 1 for none.
      seed: of what is drawn. Each text of a batch has a stream of its own.

    Raises:
      ValueError: a value is out of bounds.
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 0.95
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, 0 <= self.temperature <= 100, "from 0 to 100")
        _check("top_k", self.top_k, self.top_k >= 0, "at least 0")
        _check("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1")
        _check("min_p", self.min_p, 0 <= self.min_p <= 1, "from 0 to 1")
        penalty = self.repetition_penalty
        good = 1 / MAX_PENALTY <= penalty <= MAX_PENALTY
        _check("repetition_penalty", penalty, good, "from 0.01 to 100")
        _check("seed", self.seed, self.seed >= 0, "at least 0")

    def stream(self, number: int) -> np.random.Generator:
        """The random numbers of the text of this number in a batch."""
        return np.random.Generator(np.random.PCG64([self.seed, number]))


def _check(name: str, value: float, good: bool, bound: str) -> None:
    if not good:
        raise ValueError(f"a {name} of {value}; it must be {bound}")


def choose(
    logits: NDArray[np.float32], seen: NDArray[np.int64], how: Sampling,
    random: np.random.Generator,
) -> int:  # fmt: skip
    """The next token.

    Args:
      logits: (vocabulary,).
      seen: ids that the text holds already, for the penalty.

    Raises:
      ValueError: a logit is not a number.
    """
    scores = np.clip(logits.astype(np.float64), -FAR, FAR)
    if np.isnan(scores).any():
        raise ValueError("logits that are not numbers; there is no next token")
    if how.repetition_penalty != 1:
        found = scores[seen]
        scores[seen] = np.where(
            found > 0, found / how.repetition_penalty, found * how.repetition_penalty
        )
    end = scores[EOS_ID]
    scores[:FIRST_TEXT] = -np.inf
    scores[EOS_ID] = end
    if how.temperature == 0:
        return int(scores.argmax())
    ids, weights = candidates(scores, how)
    sums = np.cumsum(weights)
    return int(ids[min(int(np.searchsorted(sums, random.random() * sums[-1], "right")),
                       len(ids) - 1)])  # fmt: skip


def candidates(
    scores: NDArray[np.float64], how: Sampling
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Ids that may be drawn, the likeliest first, equals by id, and weights in proportion to their
    probabilities."""
    ids = np.flatnonzero(scores > -np.inf)
    if 0 < how.top_k < len(ids):
        # All that equal the last one to be kept are sorted, so that ties go by id.
        least = np.partition(scores[ids], -how.top_k)[-how.top_k]
        ids = ids[scores[ids] >= least]
    ids = ids[np.argsort(-scores[ids], kind="stable")]
    if how.top_k:
        ids = ids[: how.top_k]
    with np.errstate(over="ignore"):  # far behind at a low temperature: the weight is 0
        weights = np.exp((scores[ids] - scores[ids[0]]) / how.temperature)
    if how.top_p < 1:
        sums = np.cumsum(weights)
        kept = int(np.searchsorted(sums, how.top_p * sums[-1])) + 1
        ids, weights = ids[:kept], weights[:kept]
    kept = int(np.count_nonzero(weights >= how.min_p * weights[0]))
    return ids[:kept], weights[:kept]
