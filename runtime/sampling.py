"""Which token comes next: greedy, or drawn from what temperature, top-k, top-p and min-p leave.

The order is that of Hugging Face's generation: penalty, temperature, top-k, top-p, min-p. Top-p is
nucleus sampling (Holtzman et al., arXiv 1904.09751), min-p is after Nguyen et al. (arXiv
2407.01082), the penalty is CTRL's (Keskar et al., arXiv 1909.05858, section 4.1).
"""

from __future__ import annotations

from collections.abc import Sequence
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
    logits: NDArray[np.float32], seen: Sequence[int], how: Sampling,
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
        held = np.array(seen, np.int64)
        found = scores[held]
        scores[held] = np.where(
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
    """Ids that may be drawn, rising, and weights in proportion to their probabilities. Where not
    all of some equals are among the likeliest, those of the lower ids are."""
    ids = np.flatnonzero(scores > -np.inf)
    own = scores[ids]
    if 0 < how.top_k < len(ids):
        kept = _greatest(own, np.partition(own, -how.top_k)[-how.top_k], how.top_k)
        ids, own = ids[kept], own[kept]
    with np.errstate(over="ignore"):  # far behind at a low temperature: the weight is 0
        weights = np.exp((own - own.max()) / how.temperature)
    if how.top_p < 1:
        # To order ids takes longer than to compute their logits: so weights alone are sorted, and
        # none below this bound: all of those come to half of what top-p leaves out at the most.
        total = weights.sum()
        bound = 0.5 * (1 - how.top_p) * total / len(weights)
        falling = np.sort(weights[weights >= bound])[::-1]
        count = int(np.searchsorted(np.cumsum(falling), how.top_p * total)) + 1
        count = min(count, len(falling))
        kept = _greatest(weights, falling[count - 1], count)
        ids, weights = ids[kept], weights[kept]
    kept = weights >= how.min_p  # The likeliest's weight is 1.
    return ids[kept], weights[kept]


def _greatest(values: NDArray[np.float64], least: float, count: int) -> NDArray[np.bool_]:
    """Which are the greatest, so many, the least of which is known; of its equals the first."""
    kept = values >= least
    more = int(np.count_nonzero(kept)) - count
    if more:
        kept[np.flatnonzero(values == least)[-more:]] = False
    return kept
