"""Quality: a fastText classifier of edited prose and documentation against page debris.

Like DCLM's filter (Li et al. 2024, section 4.4) it is a bag of word n-grams; see
``models/quality.md`` for what it was trained on and what it cannot judge.
"""

from __future__ import annotations

from filters.document import Value
from filters.fasttext_model import probability, windows
from filters.model_text import tokens
from filters.signal import Bound, Signal

LANGUAGES = ("en",)
WINDOW, MOST_WINDOWS = 200, 6

SIGNALS: tuple[Signal, ...] = (
    Signal(
        "quality.score",
        "float",
        "probability",
        "mean over windows of 200 words, weighted by their length, of the probability that they "
        "are edited prose or documentation, not page debris; measured on English only",
        "own fastText model, models/quality.md",
        Bound(min=0.6),
    ),
)


def measure(text: str, language: str) -> dict[str, Value]:
    """The quality of an English text; not measured in other languages or without words."""
    words = tokens(text) if language in LANGUAGES else []
    if not words:
        return {"quality.score": None}
    parts = windows(words, WINDOW, MOST_WINDOWS)
    # By length: the few words left over at the end say little and score low.
    weights = [part.count(" ") + 1 for part in parts]
    scores = [probability("quality", part, "good") for part in parts]
    mean = sum(s * w for s, w in zip(scores, weights, strict=True)) / sum(weights)
    return {"quality.score": round(mean, 4)}
