"""FineWeb's line rules: a text just inside and one just outside each bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters import fineweb
from filters.words import TextView

BOUNDS = {signal.name: signal.default for signal in fineweb.SIGNALS}
LONG = "a line that is longer than thirty characters"


def value(name, text):
    return fineweb.measure(TextView(text))[f"fineweb.{name}"]


def rows(*counts):
    """So many of each line, made different by a number."""
    return "\n".join(f"{n:03d} {line}" for line, count in counts for n in range(count))


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("line_punct_ratio", rows((LONG + ".", 3), (LONG, 22)), rows((LONG + ".", 2), (LONG, 15))),
        ("short_line_ratio", rows(("short", 67), (LONG, 33)), rows(("short", 68), (LONG, 32))),
        ("char_dup_ratio", "a" + "\n" + "b" * 98 + "\n" + "a", "a" + "\n" + "b" * 97 + "\n" + "a"),
        ("newline_ratio", "w " * 10 + "\n" * 3, "w " * 1000 + "\n" * 301),
    ],
)
def test_bounds(name, inside, outside):
    bound = BOUNDS[f"fineweb.{name}"]
    assert bound.admits(value(name, inside)), value(name, inside)
    assert not bound.admits(value(name, outside)), value(name, outside)


def test_every_bound_has_its_case():
    assert {f"fineweb.{case[0]}" for case in test_bounds.pytestmark[0].args[1]} == set(BOUNDS)


def test_values_by_hand():
    text = "One.\nOne.\n\n" + "x" * 31 + " \n"
    assert value("line_punct_ratio", text) == 2 / 3
    assert value("short_line_ratio", text) == 2 / 3
    assert value("char_dup_ratio", text) == 4 / 40
    assert value("newline_ratio", text) == 4 / 5


def test_lines_of_thirty_characters_are_short():
    assert value("short_line_ratio", "a" * 30) == 1
    assert value("short_line_ratio", "a" * 31) == 0


@pytest.mark.parametrize("mark", [".", "!", "?", "”", "。", "।", "؟"])
def test_marks_of_any_script_end_a_line(mark):
    assert value("line_punct_ratio", f"text{mark}") == 1


@pytest.mark.parametrize("line", ["text", "text,", "text…", "text)", "text:"])
def test_other_marks_do_not_end_a_line(line):
    assert value("line_punct_ratio", line) == 0


def test_space_after_a_mark_is_overlooked():
    assert value("line_punct_ratio", "text. \t") == 1


def test_blank_lines_are_no_lines():
    assert value("line_punct_ratio", "One.\n\n  \nTwo.") == 1


@pytest.mark.parametrize("text", ["", "\n\n", "  "])
def test_no_lines(text):
    assert value("line_punct_ratio", text) == value("short_line_ratio", text) == 0


@given(st.text(alphabet=st.characters(categories=["L", "P", "Z", "C", "So"])))
def test_total_complete_and_in_range(text):
    measured = fineweb.measure(TextView(text))
    assert set(measured) == set(BOUNDS)
    assert all(0 <= measured[f"fineweb.{k}"] <= 1 for k in ("line_punct_ratio", "char_dup_ratio"))
