"""Safety: the lexicon word by word, the classifier by examples on both sides."""

from __future__ import annotations

import importlib.resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import safety
from filters.model_text import tokens
from filters.safety import LEXICONS, lexicon, lexicon_hits, measure

PLAIN = "The orchard stands on a hill above the river and the trees are old. " * 20


@pytest.mark.parametrize(
    ("word", "language"),
    [
        ("fuck", "en"), ("FUCKING", "en"), ("fuuuuck", "en"), ("f*ck", "en"), ("f**k", "en"),
        ("f***", "en"), ("sh1t", "en"), ("$hit", "en"), ("@sshole", "en"), ("fuck", "sv"),
        ("f*ck", ""), ("блядь", "ru"), ("Scheiße", "de"), ("傻逼", "zh"), ("オナニー", "ja"),
    ],
)  # fmt: skip
def test_words_and_their_disguises_are_found(word, language):
    assert sum(lexicon_hits(f"well, {word} it", language).categories.values()) == 1


@pytest.mark.parametrize(
    "word",
    [
        "Scunthorpe", "Essex", "assassin", "cocktail", "classic", "Dickens", "shiitake", "peacock",
        "analysis", "therapist", "bass", "title", "5*4", "a*b", "C*", "1234", "2nd", "arsenal",
        "char*", "char**", "x**2", "A55", "0xa55", "Dick Cheney", "Penistone", "Cockburn",
        "sextant", "Sussex", "titmouse", "grape", "naked eye", "sildenafil", "breast cancer",
    ],
)  # fmt: skip
def test_harmless_words_are_not(word):
    assert not lexicon_hits(f"well, {word} it", "en").categories


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("cum se spune, cu toate acestea", "ro"),
        ("slut på festen", "sv"),
        ("et fag i skolen", "da"),
        ("le train a du retard", "fr"),
        ("ein Ass im Ärmel", "de"),
        ("kanker en tering zijn ziekten", "nl"),
        ("magna cum laude", "la"),
        ("エセックスのパチンコではない", "fr"),
        ("进出口交易", "zh"),
        ("支援交流とロマンコメディ", "ja"),
    ],
)
def test_a_word_counts_in_its_own_language_only(text, language):
    assert not lexicon_hits(text, language).categories


@pytest.mark.parametrize(("word", "masked"), [("fuck", "fu**"), ("bitch", "b*t*h")])
def test_letters_that_show_must_be_those_of_the_word(word, masked):
    known = lexicon("en")
    assert known.find(masked) == known.entries[word]
    assert known.find("x" + masked[1:]) is None
    assert known.find(masked + "********") is None


@pytest.mark.parametrize(
    "word",
    ["fa*k", "f*nk", "b*t*s", "por*", "kik*", "w7f", "ky5", "b00b", "h0rny"],
)
def test_what_only_resembles_a_disguise_is_none(word):
    """Other letters; a footnote mark; too short; too mild."""
    assert lexicon("en").find(word) is None


def test_unspaced_text_is_searched_inside_runs_and_counted_by_characters():
    text = "今天" * 200 + "傻逼" + "明天" * 199
    hits = lexicon_hits(text, "zh")
    assert hits.categories == {"profanity": 1}
    assert hits.words >= 400
    assert measure(text, "zh")["safety.lexicon_weight"] < 6


def test_unspaced_words_count_beside_latin_letters_too():
    assert lexicon_hits("abc傻逼xyz 傻逼", "zh").categories == {"profanity": 2}


@pytest.mark.parametrize("sign", ["", " a!", " sooo"])
def test_what_is_found_does_not_hang_on_other_words(sign):
    hits = lexicon_hits("damn sh1t fuuuck" + sign, "en")
    assert hits.categories == {"profanity": 3}


@pytest.mark.parametrize("language", LEXICONS)
def test_every_lexicon_finds_its_own_words(language):
    for word, entry in lexicon(language).entries.items():
        categories = lexicon_hits(f"1 {word} 2", language).categories
        assert categories == {entry.category: 1}, word


def test_weights_add_up_per_thousand_words():
    text = " ".join(["damn"] * 2 + ["shit"] * 3 + ["cunt"] + ["word"] * 394)
    measured = measure(text, "en")
    assert measured["safety.lexicon_hits"] == 6
    assert measured["safety.severe_hits"] == 1
    assert measured["safety.lexicon_weight"] == pytest.approx(1000 * (2 + 6 + 3) / 400)


def test_short_texts_count_as_two_hundred_words():
    assert measure("damn", "en")["safety.lexicon_weight"] == 5


def test_bound_of_the_lexicon():
    bound = next(s.default for s in safety.SIGNALS if s.name == "safety.lexicon_weight")
    inside = " ".join(["damn"] * 3 + ["word"] * 197)
    outside = " ".join(["damn"] * 4 + ["word"] * 196)
    assert bound.admits(measure(inside, "en")["safety.lexicon_weight"])
    assert not bound.admits(measure(outside, "en")["safety.lexicon_weight"])


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
    assert safety.evidence("damn shit casino", "en") == "gambling 1, profanity 2"
    assert safety.evidence("damn shit casino", "sv") == "gambling 1"


def test_evidence_without_a_language_looks_in_every_lexicon():
    assert safety.evidence("damn Scheiße") == "profanity 2"


def test_the_lexicon_lists_each_word_of_a_language_once():
    resource = importlib.resources.files("filters") / "data" / "safety_lexicon.tsv"
    rows = [row.split("\t") for row in resource.read_text("utf-8").splitlines() if row[0] != "#"]
    listed = [(row[0], word.casefold()) for row in rows for word in row[3].split()]
    assert len(listed) == len(set(listed))
    assert {row[0] for row in rows} == {*LEXICONS, "any"}
    assert all(row[1] in "123" for row in rows)
    everywhere = {word for language, word in listed if language == "any"}
    assert not [pair for pair in listed if pair[0] != "any" and pair[1] in everywhere]


@settings(deadline=None)
@given(st.text(), st.sampled_from(["en", "zh", "ro", "", "xx"]))
def test_total(text, language):
    assert set(measure(text, language)) == {signal.name for signal in safety.SIGNALS}
    assert all(token == token.lower() for token in tokens(text))
