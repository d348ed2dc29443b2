"""Decisions: a bound holds at its ends and breaks just outside them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.document import Document
from filters.rules import Rule, decide, removed_by
from filters.signal import Bound, Signal

RANGE = Bound(min=50, max=100)


@pytest.mark.parametrize(
    ("value", "admitted"),
    [(50, True), (100, True), (49.999, False), (100.001, False), (None, True), (math.nan, False)],
)
def test_range_includes_both_ends(value, admitted):
    assert RANGE.admits(value) is admitted


def test_words():
    bound = Bound(one_of=("en", "de"))
    assert bound.admits("en")
    assert not bound.admits("fr")
    assert Bound(none_of=("casino",)).admits("news")
    assert not Bound(none_of=("casino",)).admits("casino")


def test_a_word_never_meets_a_range():
    assert not RANGE.admits("75")


def test_booleans_count_as_zero_and_one():
    assert Bound(max=0).admits(False)
    assert not Bound(max=0).admits(True)


def test_bounds_are_written_as_read():
    assert RANGE.describe() == ">= 50 and <= 100"
    assert Bound(max=1234567).describe() == "<= 1234567"
    assert Bound(one_of=("en", "de")).describe() == "one of en, de"


@given(st.floats(allow_nan=False), st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_a_range_agrees_with_comparison(low, high, value):
    assert Bound(min=low, max=high).admits(value) == (low <= value <= high)


def document(**signals):
    return Document("00", "http://a.test/", "web", signals=signals)


def test_every_broken_rule_is_reported_and_the_first_drop_removes():
    rules = [
        Rule("gopher", "short", "words", Bound(min=50), action="tag"),
        Rule("gopher", "few", "lines", Bound(min=3)),
        Rule("c4", "brace", "braces", Bound(max=0)),
    ]
    found = decide(document(words=10, lines=2, braces=4), rules)
    assert [(d.rule, d.value, d.bound, d.action) for d in found] == [
        ("short", 10, ">= 50", "tag"),
        ("few", 2, ">= 3", "drop"),
        ("brace", 4, "<= 0", "drop"),
    ]
    assert removed_by(found) is found[1]
    assert removed_by(found[:1]) is None


def test_unless_lifts_a_rule_only_where_the_signal_is_true():
    rule = Rule("c4", "brace", "braces", Bound(max=0), unless=("is_math", "is_code"))
    assert not rule.broken_by({"braces": 3, "is_math": True})
    assert rule.broken_by({"braces": 3, "is_math": False})
    assert rule.broken_by({"braces": 3})


def test_evidence_is_asked_for_broken_rules_only():
    asked = []

    def evidence(_document, signal):
        asked.append(signal)
        return "seen"

    rules = [Rule("s", "a", "a", Bound(max=1)), Rule("s", "b", "b", Bound(max=1))]
    found = decide(document(a=2, b=1), rules, evidence)
    assert [d.evidence for d in found] == ["seen"]
    assert asked == ["a"]


def test_stage_of_a_signal():
    assert Signal("gopher.word_count", "int", "words", "", "").stage == "gopher"
