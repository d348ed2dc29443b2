"""The quality classifier and the loading of models."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import fasttext_model, quality
from filters.fasttext_model import ModelError, windows

PROSE = """A river that looks calm from the bridge may be working hard underneath. The water on the
outside of a bend runs faster and eats into the bank, while the slower water on the inside
drops its sand and builds a beach. Over many years the bend moves sideways across the
valley, and old maps show channels where there are meadows today. People who live beside
such a river learn to read it."""
DEBRIS = "cheap shoes london | cheap shoes leeds | cheap shoes dallas | add to cart | login | " * 8


def test_prose_is_above_and_debris_below_the_bound():
    bound = next(s.default for s in quality.SIGNALS)
    assert bound.admits(quality.measure(PROSE, "en")["quality.score"])
    assert not bound.admits(quality.measure(DEBRIS, "en")["quality.score"])


def test_only_english_with_words_is_judged():
    assert quality.measure(PROSE, "de") == {"quality.score": None}
    assert quality.measure("", "en") == {"quality.score": None}


@settings(deadline=None)
@given(st.text())
def test_total(text):
    score = quality.measure(text, "en")["quality.score"]
    assert score is None or 0 <= score <= 1


@pytest.mark.parametrize(
    ("words", "size", "most", "expected"),
    [
        (5, 2, 9, ["0 1", "2 3", "4"]),
        (8, 2, 2, ["0 1", "4 5"]),
        (1, 2, 3, ["0"]),
        (0, 2, 3, [""]),
    ],
)
def test_windows_are_spread_over_the_text(words, size, most, expected):
    assert windows([str(n) for n in range(words)], size, most) == expected


def test_a_model_that_was_exchanged_is_refused(monkeypatch):
    monkeypatch.setattr(fasttext_model, "_digests", lambda: {"quality": "0" * 64})
    fasttext_model.load.cache_clear()
    try:
        with pytest.raises(ModelError, match=r"quality\.ftz has SHA-256 .*, not 000.*; reinstall"):
            fasttext_model.load("quality")
    finally:
        monkeypatch.undo()
        fasttext_model.load.cache_clear()
    assert fasttext_model.load("quality") is fasttext_model.load("quality")
