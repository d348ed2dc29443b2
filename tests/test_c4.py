"""C4's lines and pages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters import c4
from filters.c4 import C4Options
from filters.words import TextView

GOOD = "This line is fine."


def reasons(text, **options):
    return [edit.reason for edit in c4.edit(text, C4Options(**options))[1]]


def apply(text, edits):
    """The text with each span replaced, from the end to the beginning."""
    for edit in sorted(edits, key=lambda e: e.start, reverse=True):
        text = text[: edit.start] + edit.replacement + text[edit.end :]
    return text


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("two words", "c4.line.short"),
        ("w" * 1001 + " and more words", "c4.line.long_word"),
        ("Please enable JavaScript to go on.", "c4.line.javascript"),
        ("Read our privacy policy to learn more.", "c4.line.policy"),
        ("This site uses cookies for everything.", "c4.line.policy"),
    ],
)
def test_lines_that_go(line, reason):
    text, edits = c4.edit(f"{GOOD}\n{line}\n{GOOD}")
    assert text == f"{GOOD}\n{GOOD}"
    assert [edit.reason for edit in edits] == [reason]
    assert edits[0].end - edits[0].start == len(line) + 1


@pytest.mark.parametrize(
    ("line", "options", "kept"),
    [
        ("three short words", {}, True),
        ("two words", {"min_words": 2}, True),
        ("w" * 1000 + " and more words", {}, True),
        ("今天天气很好", {}, True),
        ("天气", {}, False),
        ("It has a mark.", {"terminal_punctuation": True}, True),
        ("It has no mark", {"terminal_punctuation": True}, False),
        ("It has no end ...", {"terminal_punctuation": True}, False),
        ("It has a citation.[1]", {"terminal_punctuation": True}, True),
        ("Please enable JavaScript now.", {"javascript": False}, True),
        ("Read our privacy policy here.", {"policies": False}, True),
    ],
)
def test_just_inside_and_just_outside(line, options, kept):
    removed = [reason for reason in reasons(line, **options) if reason.startswith("c4.line")]
    assert (removed == []) is kept


def test_the_presets_differ_in_words_a_line():
    line = "Just four words here."
    assert c4.edit(line, c4.PAPER)[1] == []
    assert [e.reason for e in c4.edit(line, c4.ORIGINAL)[1]] == ["c4.line.short"]


def test_citations_are_removed_within_a_line():
    text, edits = c4.edit("Known since long[12] and often[citation needed] said [edit].")
    assert text == "Known since long and often said ."
    assert [edit.reason for edit in edits] == ["c4.citation"] * 3
    assert reasons("Known since long[12] ago.", citations=False) == []


LINES = st.sampled_from(
    [GOOD, "two words", "", "javascript is off here", "a b c[3] d", "\tindented line here", "e\r"]
)


@given(st.lists(LINES | st.text(max_size=30)).map("\n".join))
def test_edits_say_exactly_what_was_done(text):
    result, edits = c4.edit(text)
    assert apply(text, edits) == result
    spans = [(edit.start, edit.end) for edit in edits]
    assert spans == sorted(spans)
    assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False))


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("lorem_ipsum", "Lorem and ipsum.", "a Lorem Ipsum dolor"),
        ("curly_bracket", "no } here", "a { here"),
        ("sentences", "A. B. C. D. E.", "A. B. C. D."),
    ],
)
def test_bounds(name, inside, outside):
    bound = next(s.default for s in c4.SIGNALS if s.name == f"c4.{name}")
    assert bound.admits(c4.measure(TextView(inside))[f"c4.{name}"])
    assert not bound.admits(c4.measure(TextView(outside))[f"c4.{name}"])


@pytest.mark.parametrize("options", [{"min_words": -1}, {"max_word_length": 0}])
def test_options_are_checked(options):
    with pytest.raises(ValueError, match="it must be at least"):
        C4Options(**options)
