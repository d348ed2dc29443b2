"""Words, lines, paragraphs, sentences."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.stop_words import STOP_WORDS
from filters.words import TextView, count_sentences


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop, please...", ["Don't", "stop", ",", "please", "..."]),
        ("well-known and/or", ["well", "-", "known", "and", "/", "or"]),
        ("1,000.5 at 12:30", ["1,000.5", "at", "12:30"]),
        ("see https://a.test/x?y=1 now", ["see", "https://a.test/x?y=1", "now"]),
        ("snake_case", ["snake", "_", "case"]),
        ("天气很好。", ["天气", "很好", "。"]),
        ("我有3个apple", ["我有", "3", "个", "apple"]),
        ("Ёж и café", ["Ёж", "и", "café"]),
        ("", []),
    ],
)
def test_tokens(text, words):
    assert TextView(text).words == words


def test_plain_words_leave_punctuation_out():
    assert TextView("A, b! ... 3 天气 #").plain_words == ["A", "b", "3", "天气"]


def test_share_of_unspaced_words():
    assert TextView("all in Latin").unspaced_share == 0
    assert TextView("天气 good").unspaced_share == 0.5


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("One. Two! Three?", 3),
        ("It cost 3.50 e.g. this. Yes.", 2),
        ('He said "no." Then he left.', 2),
        ("no mark", 1),
        ("今天很好。明天也好。", 2),
        ("   ", 0),
    ],
)
def test_sentences(line, count):
    assert count_sentences(line) == count


def test_lines_and_paragraphs():
    view = TextView("one\ntwo\n\n\nthree\n")
    assert view.filled_lines == ["one", "two", "three"]
    assert view.line_blocks == ["one", "two", "three", ""]
    assert view.paragraphs == ["one\ntwo", "three"]
    assert view.sentences == 3


@given(st.text())
def test_any_text_has_words_with_ids_and_lengths(text):
    view = TextView(text)
    assert len(view.word_ids) == len(view.words) == len(view.word_lengths)
    assert all(word in text for word in view.words)
    same = {word: number for word, number in zip(view.words, view.word_ids.tolist(), strict=True)}
    assert len(set(same.values())) == len(same)


def test_stop_words_are_lower_case_and_enough():
    for language, words in STOP_WORDS.items():
        assert len(words) >= 8, language
        assert all(word == word.lower() for word in words), language
