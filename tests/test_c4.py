"""C4's lines and pages."""

from __future__ import annotations

from itertools import pairwise

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
    ("line", "reason", "evidence"),
    [
        ("two words", "c4.line.short", "2 words"),
        ("w" * 1001 + " and more words", "c4.line.long_word", "1001 characters"),
        ("Please enable JavaScript to go on.", "c4.line.javascript", "javascript"),
        *((f"These are our {p.title()} here.", "c4.line.policy", p) for p in c4.POLICIES),
    ],
)
def test_lines_that_go(line, reason, evidence):
    text, edits = c4.edit(f"{GOOD}\n{line}\n{GOOD}")
    assert text == f"{GOOD}\n{GOOD}"
    assert [edit.reason for edit in edits] == [reason]
    assert (edits[0].start, edits[0].end) == (len(GOOD) + 1, len(GOOD) + len(line) + 2)
    assert edits[0].evidence == evidence


@pytest.mark.parametrize(
    ("line", "options", "kept"),
    [
        ("three short words", {}, True),
        ("two words", {"min_words": 2}, True),
        ("w" * 1000 + " and more words", {}, True),
        ("今天天气很好", {}, True),
        ("天气", {}, False),
        ("今天天气", {}, False),
        ("don't-stop café", {}, False),
        ("", {"min_words": 5, "terminal_punctuation": True}, True),
        ("It trails off all too soon…", {"terminal_punctuation": True}, False),
        ("句号在这里。", {"terminal_punctuation": True}, True),
        ("वह घर गया।", {"terminal_punctuation": True}, True),
        ("He told her “no.”", {"terminal_punctuation": True}, True),
        ("It has a citation.[1]", {"terminal_punctuation": True, "citations": False}, False),
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


def test_the_first_reason_is_the_one_told():
    assert reasons("w" * 1001 + " javascript") == ["c4.line.long_word"]
    assert reasons("my javascript", terminal_punctuation=True) == [
        "c4.line.no_terminal_punctuation"
    ]
    assert reasons("javascript cookies") == ["c4.line.short"]


def test_evidence_is_never_the_line():
    _, edits = c4.edit("jane@doe.test 555-0100", c4.PAPER)
    assert [(e.reason, e.evidence) for e in edits] == [("c4.line.no_terminal_punctuation", "")]


def test_the_presets_differ_in_words_a_line():
    line = "Just four words here."
    assert c4.edit(line, c4.PAPER)[1] == []
    assert [e.reason for e in c4.edit(line, c4.ORIGINAL)[1]] == ["c4.line.short"]


def test_citations_are_removed_within_a_line():
    text, edits = c4.edit("Known since long[12] and often[citation needed] said [edit].")
    assert text == "Known since long and often said ."
    assert [edit.reason for edit in edits] == ["c4.citation"] * 3
    assert reasons("Known since long[12] ago.", citations=False) == []


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"{GOOD}\nshort\n\n{GOOD}\n", f"{GOOD}\n\n{GOOD}\n"),
        (f"{GOOD}\n\nshort\n\n \nshort\n\n{GOOD}\n", f"{GOOD}\n\n{GOOD}\n"),
        (f"short\n\n{GOOD}\n", f"{GOOD}\n"),
        (f"{GOOD}\n\n\n{GOOD}\n", f"{GOOD}\n\n\n{GOOD}\n"),
    ],
)
def test_blank_lines_part_paragraphs_and_do_not_pile_up(text, kept):
    result, edits = c4.edit(text)
    assert result == kept
    assert apply(text, edits) == kept


LINES = st.sampled_from(
    [
        GOOD,
        "two words",
        "",
        "javascript is off here",
        "a b c[3] d[edit]",
        "\tindented line here",
        "天",
    ]
)
ENDS = st.sampled_from(["", "\n", "\r\n", "\r", "\x0b", "\x1c", "\x85", "\u2028"])
TEXTS = st.lists(st.tuples(LINES | st.text(max_size=30), ENDS).map("".join)).map("".join)
OPTIONS = st.builds(
    C4Options,
    min_words=st.integers(0, 5),
    terminal_punctuation=st.booleans(),
    max_word_length=st.integers(1, 20),
    javascript=st.booleans(),
    policies=st.booleans(),
    citations=st.booleans(),
)


@given(TEXTS, OPTIONS)
def test_edits_say_exactly_what_was_done(text, options):
    result, edits = c4.edit(text, options)
    assert apply(text, edits) == result
    assert all(0 <= edit.start < edit.end <= len(text) for edit in edits)
    assert all(a.end <= b.start for a, b in pairwise(edits))


@given(TEXTS)
def test_what_is_kept_is_whole_lines(text):
    """Without citations an edit is a line that goes, and perhaps the blank lines after it."""
    result, edits = c4.edit(text, C4Options(citations=False))
    rows = text.splitlines(keepends=True)
    starts = {sum(map(len, rows[:n])) for n in range(len(rows) + 1)}
    for edit in edits:
        assert {edit.start, edit.end} <= starts
        removed = text[edit.start : edit.end].splitlines()
        assert [bool(row.strip()) for row in removed] == [True] + [False] * (len(removed) - 1)
    gone = sum(edit.end - edit.start for edit in edits)
    assert len(result) == len(text) - gone


@given(st.text())
def test_total_and_complete(text):
    assert set(c4.measure(TextView(text))) == {signal.name for signal in c4.SIGNALS}


@pytest.mark.parametrize("piece", ["a", "[", "[1", "{", "\x00", "天", "💧 "])
def test_one_long_line(piece):
    text = (piece * 200_000)[:200_000]
    result, edits = c4.edit(text)
    assert apply(text, edits) == result


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("lorem_ipsum", "Lorem and ipsum.", "a Lorem Ipsum dolor"),
        ("curly_bracket", "no } here", "a { here"),
        ("sentences", "Aa. Bb. Cc. Dd. Ee.", "Aa. Bb. Cc. Dd."),
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
