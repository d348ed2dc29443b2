"""Gopher's repetition rules against a plain implementation of datatrove's meaning."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters import repetition
from filters.words import TextView

BOUNDS = {signal.name: signal.default for signal in repetition.SIGNALS}


def value(name, text):
    return repetition.measure(TextView(text))[f"repetition.{name}"]


def plain_top(words, n):
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    if not grams:
        return 0
    gram, count = Counter(grams).most_common(1)[0]
    return len(" ".join(gram)) * count if count > 1 else 0


def plain_repeated(words, n):
    seen, characters, place = set(), 0, 0
    while place < len(words) - n + 1:
        gram = tuple(words[place : place + n])
        if gram in seen:
            characters += sum(map(len, gram))
            place += n
        else:
            seen.add(gram)
            place += 1
    return characters


def plain_duplicates(parts):
    """Parts that equal an earlier one, and their characters."""
    extra = [part for place, part in enumerate(parts) if part in parts[:place]]
    return len(extra), sum(map(len, extra))


def plain_measure(text):
    """Every signal, computed as datatrove does: strings, n by n, from left to right."""
    words, size = TextView(text).words, len(text) or 1
    found = {}
    for part, parts in (
        ("line", re.split(r"\n+", text)),
        ("paragraph", re.split(r"\n{2,}", text.strip())),
    ):
        count, characters = plain_duplicates(parts)
        found[f"repetition.duplicate_{part}_fraction"] = count / len(parts)
        found[f"repetition.duplicate_{part}_char_fraction"] = characters / size
    for n in (2, 3, 4):
        found[f"repetition.top_{n}gram_char_fraction"] = plain_top(words, n) / size
    for n in (5, 6, 7, 8, 9, 10):
        found[f"repetition.duplicate_{n}gram_char_fraction"] = plain_repeated(words, n) / size
    return found


PIECES = st.sampled_from(["a", "bb", "ccc", ".", "天气", "😀", "\x00"])
SEPARATORS = st.sampled_from([" ", " ", " ", "\n", "\n\n"])


@given(st.lists(st.tuples(PIECES, SEPARATORS).map("".join), max_size=80).map("".join))
def test_equals_the_plain_implementation(text):
    assert repetition.measure(TextView(text)) == plain_measure(text)


@given(st.lists(st.sampled_from("ab"), min_size=20, max_size=120).map(" ".join))
def test_equals_the_plain_implementation_where_nearly_all_repeats(text):
    assert repetition.measure(TextView(text)) == plain_measure(text)


@given(st.text())
def test_equals_the_plain_implementation_on_any_text(text):
    assert repetition.measure(TextView(text)) == plain_measure(text)


def rows(unique, copies, size):
    """Different lines of ``size`` characters, then copies of the first."""
    different = [f"{number:0{size}d}" for number in range(unique)]
    return different + different[:1] * copies


def padded(parts, separator, size):
    """The parts joined, with a last one that brings the text to ``size`` characters."""
    text = separator.join(parts) + separator
    return text + "z" * (size - len(text))


@pytest.mark.parametrize(("part", "separator"), [("line", "\n"), ("paragraph", "\n\n")])
def test_bounds_of_lines(part, separator):
    """3 copies of 10 lines are 0.3; 2 copies of 10 characters in 100 are 0.2."""
    name = f"repetition.duplicate_{part}_fraction"
    inside, outside = (separator.join(rows(*counts, 4)) for counts in ((7, 3), (69, 31)))
    assert value(f"duplicate_{part}_fraction", inside) == 0.3
    assert BOUNDS[name].admits(0.3)
    assert value(f"duplicate_{part}_fraction", outside) == 0.31
    assert not BOUNDS[name].admits(0.31)

    name = f"repetition.duplicate_{part}_char_fraction"
    parts = rows(2, 2, 10)
    inside, outside = (padded(parts, separator, size) for size in (100, 99))
    assert value(f"duplicate_{part}_char_fraction", inside) == 0.2
    assert BOUNDS[name].admits(0.2)
    assert value(f"duplicate_{part}_char_fraction", outside) == 20 / 99
    assert not BOUNDS[name].admits(20 / 99)


def phrase(n, size):
    """An n-gram of different words, ``size`` characters with its spaces."""
    words = list("abcdefghij"[:n])
    words[0] *= size - 2 * (n - 1)
    return " ".join(words)


@pytest.mark.parametrize(("n", "percent"), [(2, 20), (3, 18), (4, 16)])
def test_bounds_of_the_top_n_gram(n, percent):
    """Two occurrences of ``percent`` characters, in a text of 200 and in one of 199."""
    bound = BOUNDS[f"repetition.top_{n}gram_char_fraction"]
    parts = [phrase(n, percent), "|", phrase(n, percent)]
    inside, outside = (
        value(f"top_{n}gram_char_fraction", padded(parts, " ", size)) for size in (200, 199)
    )
    assert inside == bound.max == percent / 100
    assert outside == 2 * percent / 199
    assert bound.admits(inside)
    assert not bound.admits(outside)


@pytest.mark.parametrize(("n", "percent"), [(5, 15), (6, 14), (7, 13), (8, 12), (9, 11), (10, 10)])
def test_bounds_of_duplicate_n_grams(n, percent):
    """One extra copy of words of ``percent`` letters, in a text of 100 characters and of 99."""
    bound = BOUNDS[f"repetition.duplicate_{n}gram_char_fraction"]
    copy = phrase(n, percent + n - 1)
    inside, outside = (
        value(f"duplicate_{n}gram_char_fraction", padded([copy, "|", copy], " ", size))
        for size in (100, 99)
    )
    assert inside == bound.max == percent / 100
    assert outside == percent / 99
    assert bound.admits(inside)
    assert not bound.admits(outside)


@pytest.mark.parametrize(
    ("text", "ours", "all_copies"),
    [("a b c d e a", 1 / 6, 2 / 6), ("a b c a", 1 / 4, 2 / 4), ("a b c d e f a a", 2 / 8, 3 / 8)],
)
def test_only_extra_copies_count(text, ours, all_copies):
    """Datatrove and NeMo keep these; Dolma and DCLM count all copies and drop them (> 0.30)."""
    bound = BOUNDS["repetition.duplicate_line_fraction"]
    assert value("duplicate_line_fraction", text.replace(" ", "\n")) == ours
    assert bound.admits(ours)
    assert not bound.admits(all_copies)


def test_an_n_gram_that_occurs_once_is_no_repetition():
    assert value("top_2gram_char_fraction", "one two") == 0


def test_words_count_where_they_are_cut():
    """Words that only join to the same letters are no repetition."""
    assert value("duplicate_5gram_char_fraction", "ab c d e f | a bc d e f") == 0


def test_all_signals_are_measured():
    assert set(repetition.measure(TextView(""))) == set(BOUNDS)
    assert set(repetition.measure(TextView("")).values()) == {0}


@pytest.mark.parametrize("piece", ["word ", "a", ".", "# ", "天", "😀", "\x00", "a\n", "\n"])
def test_200_kb_of_one_thing(piece):
    text = (piece * 200_000)[:200_000]
    measured = repetition.measure(TextView(text))
    for name, share in measured.items():
        # Occurrences of a top n-gram may overlap, as in datatrove: n words and n - 1 spaces each.
        assert 0 <= share <= (2 * 4 if ".top_" in name else 1), name


def test_a_long_line_of_one_word_repeats_all_but_the_first_n_gram():
    measured = value("duplicate_10gram_char_fraction", "word " * 40_000)
    assert measured == (40_000 - 1) // 10 * 40 / 200_000
