"""Gopher's repetition rules against a plain implementation of datatrove's meaning."""

from __future__ import annotations

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


@given(st.lists(st.sampled_from(["a", "bb", "ccc", "."]), max_size=60))
def test_n_grams_equal_the_plain_implementation(words):
    text = " ".join(words)
    view = TextView(text)
    measured = repetition.measure(view)
    for n in repetition.TOP_BOUNDS:
        expected = plain_top(view.words, n) / (len(text) or 1)
        assert measured[f"repetition.top_{n}gram_char_fraction"] == expected
    for n in repetition.DUPLICATE_BOUNDS:
        expected = plain_repeated(view.words, n) / (len(text) or 1)
        assert measured[f"repetition.duplicate_{n}gram_char_fraction"] == expected


def lines(unique, copies, size=10):
    """Lines of one length, ``copies`` of them repeating the first."""
    rows = [f"{number:0{size}d}" for number in range(unique)]
    return "\n".join(rows + rows[:1] * copies)


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("duplicate_line_fraction", lines(7, 3), lines(69, 31)),
        ("duplicate_line_char_fraction", lines(8, 2), lines(70, 30)),
        (
            "duplicate_paragraph_fraction",
            lines(7, 3).replace("\n", "\n\n"),
            lines(69, 31).replace("\n", "\n\n"),
        ),
        (
            "duplicate_paragraph_char_fraction",
            lines(80, 20).replace("\n", "\n\n"),
            lines(70, 30).replace("\n", "\n\n"),
        ),
    ],
)
def test_bounds_of_lines(name, inside, outside):
    bound = BOUNDS[f"repetition.{name}"]
    assert bound.admits(value(name, inside)), value(name, inside)
    assert not bound.admits(value(name, outside)), value(name, outside)


def filler(count):
    return " ".join(f"w{number:04d}" for number in range(count))


@pytest.mark.parametrize("n", [*repetition.TOP_BOUNDS, *repetition.DUPLICATE_BOUNDS])
def test_bounds_of_n_grams(n):
    """The same phrase is repeated until its share passes the bound: inside, then outside."""
    kind = "top" if n in repetition.TOP_BOUNDS else "duplicate"
    name = f"{kind}_{n}gram_char_fraction"
    bound = BOUNDS[f"repetition.{name}"]
    phrase = " ".join(f"p{k}" for k in range(n))
    shares = []
    for times in range(2, 60):
        text = " | ".join([f"{filler(60)}", *(f"{phrase} x{t}" for t in range(times))])
        shares.append(value(name, text))
    admitted = [bound.admits(share) for share in shares]
    assert admitted[0]
    assert not admitted[-1]
    first_out = admitted.index(False)
    assert all(admitted[:first_out])
    assert shares[first_out - 1] <= bound.max < shares[first_out]


def test_only_extra_copies_count():
    assert value("duplicate_line_fraction", "a\nb\nc\nd\ne\na") == pytest.approx(1 / 6)


def test_an_n_gram_that_occurs_once_is_no_repetition():
    assert value("top_2gram_char_fraction", "one two") == 0


@given(st.text())
def test_total_and_complete(text):
    measured = repetition.measure(TextView(text))
    assert set(measured) == set(BOUNDS)
    assert all(share >= 0 for share in measured.values())


def test_a_long_line_is_no_trouble():
    assert value("duplicate_10gram_char_fraction", "word " * 40_000) > 0.5
