"""Gopher's quality rules: a text just inside and one just outside each bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters import gopher
from filters.words import TextView

BOUNDS = {signal.name: signal.default for signal in gopher.SIGNALS}


def value(name, text, language="en"):
    return gopher.measure(TextView(text), language)[f"gopher.{name}"]


def prose(words):
    return " ".join(["word"] * words)


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("word_count", prose(50), prose(49)),
        ("word_count", prose(100_000), prose(100_001)),
        ("mean_word_length", "a bcdef", "abc " * 9 + "de"),
        ("mean_word_length", "a" * 9 + " " + "b" * 11, "abcdefghij " * 9 + "b" * 11),
        ("symbol_ratio_hash", "#" + " w" * 9, "##" + " w" * 17),
        ("symbol_ratio_ellipsis", "…" + " w" * 9, "… …" + " w" * 17),
        ("bullet_line_ratio", "- a\n" * 9 + "b", " • a\n" * 91 + "b\n" * 9),
        ("ellipsis_line_ratio", "a...\n" * 3 + "b\n" * 7, "a… \n" * 31 + "b\n" * 69),
        ("alphabetic_word_ratio", "w " * 4 + ".", "w " * 79 + ". " * 21),
        ("stop_words", "the river of", "the river the"),
    ],
)
def test_bounds(name, inside, outside):
    bound = BOUNDS[f"gopher.{name}"]
    assert bound.admits(value(name, inside)), value(name, inside)
    assert not bound.admits(value(name, outside)), value(name, outside)


def test_every_bound_has_its_case():
    cases = test_bounds.pytestmark[0].args[1]
    ends = sum((b.min is not None) + (b.max is not None) for b in BOUNDS.values())
    assert {f"gopher.{name}" for name, _, _ in cases} == set(BOUNDS)
    assert len(cases) == ends


def test_ratios_are_over_all_tokens_and_all_lines():
    text = "Tokens: # one, two ... 3\n\n- end…\n"
    assert value("symbol_ratio_hash", text) == 1 / 11
    assert value("symbol_ratio_ellipsis", text) == 2 / 11
    assert value("alphabetic_word_ratio", text) == 4 / 11
    assert value("bullet_line_ratio", text) == value("ellipsis_line_ratio", text) == 1 / 3


def test_prose_in_scripts_with_combining_marks_is_alphabetic():
    text = "यह हिन्दी में लिखा गया एक सरल वाक्य है"
    assert value("alphabetic_word_ratio", text) == 1
    assert value("word_count", text) == 9
    assert value("stop_words", text, "hi") == 3


def test_punctuation_is_not_counted_as_words():
    assert value("word_count", "one, two - three! • € ©") == 3


def test_stop_words_are_different_words_of_the_language():
    assert value("stop_words", "The the THE OF") == 2
    assert value("stop_words", "der und die", "de") == 3
    assert value("stop_words", "der und die", "en") == 0
    assert value("stop_words", "the of", "xx") is None


def test_length_of_words_is_not_measured_without_spaces():
    assert value("mean_word_length", "今天天气很好我们去公园") is None
    assert value("word_count", "今天天气很好我们去公园") == 6
    assert value("mean_word_length", "今天天气 in a few words") == 2.5
    assert value("mean_word_length", "今天天气很好 in few") is None
    assert value("mean_word_length", "今天天气很好我们 in a few words") == pytest.approx(19 / 8)


def test_empty_text():
    measured = gopher.measure(TextView(""), "en")
    assert measured["gopher.word_count"] == 0
    assert measured["gopher.mean_word_length"] is None
    assert measured["gopher.alphabetic_word_ratio"] == 0


@given(st.text(), st.sampled_from(["en", "zh", "und"]))
def test_total_and_complete(text, language):
    assert set(gopher.measure(TextView(text), language)) == set(BOUNDS)
