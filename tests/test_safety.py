"""Safety: the lexicon word by word, the classifier by examples on both sides."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import safety
from filters.model_text import tokens
from filters.safety import lexicon, lexicon_hits, measure

PLAIN = "The orchard stands on a hill above the river and the trees are old. " * 20


@pytest.mark.parametrize(
    "word",
    ["fuck", "FUCKING", "fuuuuck", "f*ck", "f**k", "sh1t", "$hit", "@sshole", "блядь", "scheiße"],
)
def test_words_and_their_disguises_are_found(word):
    assert sum(lexicon_hits(f"well, {word} it")[0].values()) == 1


@pytest.mark.parametrize(
    "word",
    [
        "Scunthorpe", "Essex", "assassin", "cocktail", "classic", "Dickens", "shiitake", "peacock",
        "analysis", "therapist", "bass", "title", "5*4", "a*b", "C*", "1234", "2nd", "arsenal",
    ],
)  # fmt: skip
def test_harmless_words_are_not(word):
    assert not lexicon_hits(f"well, {word} it")[0]


def test_weights_add_up_per_thousand_words():
    text = " ".join(["damn"] * 2 + ["shit"] * 3 + ["cunt"] + ["word"] * 394)
    measured = measure(text, "xx")
    assert measured["safety.lexicon_hits"] == 6
    assert measured["safety.severe_hits"] == 1
    assert measured["safety.lexicon_weight"] == pytest.approx(1000 * (2 + 6 + 3) / 400)


def test_short_texts_count_as_two_hundred_words():
    assert measure("damn", "xx")["safety.lexicon_weight"] == 5


def test_bound_of_the_lexicon():
    bound = next(s.default for s in safety.SIGNALS if s.name == "safety.lexicon_weight")
    inside = " ".join(["damn"] * 3 + ["word"] * 197)
    outside = " ".join(["damn"] * 4 + ["word"] * 196)
    assert bound.admits(measure(inside, "xx")["safety.lexicon_weight"])
    assert not bound.admits(measure(outside, "xx")["safety.lexicon_weight"])


def test_the_classifier_tells_abuse_from_prose():
    abuse = "you are a stupid fucking idiot and i hate you, go to hell you piece of shit. " * 5
    bound = next(s.default for s in safety.SIGNALS if s.name == "safety.toxicity")
    assert not bound.admits(safety.toxicity(abuse))
    assert bound.admits(safety.toxicity(PLAIN))


def test_a_toxic_passage_shows_in_a_long_text():
    abuse = "you are a stupid fucking idiot and i hate you, go to hell you piece of shit. " * 12
    assert safety.toxicity(PLAIN + abuse) > safety.toxicity(PLAIN * 2) + 0.2


def test_the_classifier_judges_english_only():
    assert measure(PLAIN, "de")["safety.toxicity"] is None
    assert measure("", "en")["safety.toxicity"] is None


def test_evidence_names_categories_never_words():
    text = safety.evidence("damn shit casino")
    assert text == "gambling 1, profanity 2"


def test_no_word_stands_twice_in_the_lexicon():
    import importlib.resources

    resource = importlib.resources.files("filters") / "data" / "safety_lexicon.tsv"
    rows = [row.split("\t") for row in resource.read_text("utf-8").splitlines() if row[0] != "#"]
    words = [word for row in rows for word in row[2].split()]
    assert len(words) == len(set(words)) == len(lexicon().entries)
    assert all(row[0] in "123" for row in rows)
    assert all(word == word.casefold() or "ß" in word for word in words)


@settings(deadline=None)
@given(st.text())
def test_total(text):
    assert set(measure(text, "en")) == {signal.name for signal in safety.SIGNALS}
    assert all(token == token.lower() for token in tokens(text))
