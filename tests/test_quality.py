"""The quality classifier by examples on both sides of its bound."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from filters import quality

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


def test_short_pages_of_the_web_are_not_debris():
    note = "Thanks for the tip, I tried it on my old bike last night and the noise is gone. " * 3
    assert quality.SIGNALS[0].default.admits(quality.measure(note, "en")["quality.score"])


def test_only_english_with_words_is_judged():
    assert quality.measure(PROSE, "de") == {"quality.score": None}
    assert quality.measure("", "en") == {"quality.score": None}


@settings(deadline=None)
@given(st.text())
def test_total(text):
    score = quality.measure(text, "en")["quality.score"]
    assert score is None or 0 <= score <= 1
