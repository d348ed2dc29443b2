"""Language identification."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import language

TEXTS = {
    "en": "The orchard stands on a hill above the river, and the trees are old.",
    "de": "Der Obstgarten steht auf einem Hügel über dem Fluss, und die Bäume sind alt.",
    "fr": "Le verger se trouve sur une colline au-dessus de la rivière et les arbres sont vieux.",
    "ru": "Сад стоит на холме над рекой, и деревья в нём очень старые.",
    "ja": "果樹園は川の上の丘にあり、木はとても古いです。",
    "ar": "يقع البستان على تلة فوق النهر، والأشجار قديمة جدا.",
}


@pytest.mark.parametrize("code", TEXTS)
def test_languages(code):
    measured = language.measure(TEXTS[code])
    assert measured["language.code"] == code
    assert 0.65 <= measured["language.score"] <= 1


@pytest.mark.parametrize("text", ["", "   ", "12 34", "?!", "ab"])
def test_too_little_text_is_undetermined(text):
    assert language.measure(text) == {"language.code": "und", "language.score": 0.0}


def test_bound():
    bound = next(s.default for s in language.SIGNALS if s.name == "language.score")
    assert bound.admits(0.65)
    assert not bound.admits(0.6499)


def test_a_long_text_is_judged_by_three_pieces():
    piece = language.PIECE
    text = "a" * piece + "b" * 10 * piece + "c" * piece
    assert language.pieces(text) == f"{'a' * piece} {'b' * piece} {'c' * piece}"
    assert language.pieces("a\n b\t c") == "a b c"


def test_a_menu_in_another_language_does_not_decide():
    text = "Home | About us | Contact | Log in\n" + TEXTS["de"] * 40
    assert language.measure(text)["language.code"] == "de"


def test_scores_have_four_digits():
    score = language.measure(TEXTS["en"])["language.score"]
    assert score == round(score, 4)


@settings(deadline=None)
@given(st.text())
def test_total(text):
    measured = language.measure(text)
    assert set(measured) == {"language.code", "language.score"}
