"""Accounts add up, and a lost document is noticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.document import DeadLetter, Decision, Document, Edit
from pipelines.account import EXAMPLES, Account, ConservationError, histogram_key

STAGES = ("read", "extract", "gopher")


def decision(stage="gopher", action="drop"):
    return Decision("00", stage, f"{stage}.rule", 3, ">= 50", action, "evidence")


def page(number, **signals):
    return Document(f"{number:032x}", f"http://a.test/{number}", "web", "text", "en", signals)


def add(account, number, end):
    found = [decision(end)] if end in STAGES else []
    letter = DeadLetter(f"{number:032x}", "extract", "ValueError", "") if end == "dead" else None
    removed = found[0] if found else None
    account.document(page(number, words=number), found, removed, [], letter, STAGES)


@given(st.lists(st.sampled_from(["kept", "dead", "read", "gopher"])), st.integers(0, 20))
def test_accounts_of_parts_add_up_to_the_account_of_the_whole(ends, cut):
    whole, left, right = Account(), Account(), Account()
    for number, end in enumerate(ends):
        add(whole, number, end)
        add(left if number < cut else right, number, end)
    left.add(right)
    assert left == whole
    if ends:
        whole.check(STAGES, "here")
    assert Account.from_dict(whole.to_dict()) == whole


def test_funnel_of_stages():
    account = Account()
    for number, end in enumerate(["kept", "dead", "gopher", "read"]):
        add(account, number, end)
    assert account.counts["read"] == 4
    assert dict(account.stages["read"]) == {"in": 4, "dropped": 1, "out": 3}
    assert dict(account.stages["extract"]) == {"in": 3, "dead": 1, "out": 2}
    assert dict(account.stages["gopher"]) == {"in": 2, "dropped": 1, "out": 1}


@pytest.mark.parametrize("end", ["read", "kept", "rejected", "dead"])
def test_a_miscount_is_an_error(end):
    account = Account()
    for number, where in enumerate(["kept", "dead", "gopher"]):
        add(account, number, where)
    account.counts[end] += 1
    with pytest.raises(ConservationError, match="crawl.warc: "):
        account.check(STAGES, "crawl.warc")


def test_a_stage_that_loses_a_document_is_an_error():
    account = Account()
    add(account, 1, "kept")
    account.stages["extract"]["in"] += 1
    with pytest.raises(ConservationError, match="stage extract takes in 2 of 1"):
        account.check(STAGES, "crawl.warc")


def test_tags_are_counted_but_remove_nothing():
    account = Account()
    tag = decision(action="tag")
    account.document(page(1), [tag], None, [], None, STAGES)
    assert account.rules["gopher.rule"] == {"broken": 1}
    assert account.counts["kept"] == 1


def test_examples_are_the_smallest_ids_whatever_the_order():
    forth, back = Account(), Account()
    for number in range(20):
        add(forth, number, "gopher")
        add(back, 19 - number, "gopher")
    assert forth.examples == back.examples
    assert len(forth.examples["gopher.rule"]) == EXAMPLES
    assert forth.examples["gopher.rule"][0][1] == "http://a.test/0"


def test_edits_are_counted_by_reason():
    account = Account()
    edits = [Edit("pii", "pii.email", 0, 5), Edit("pii", "pii.email", 7, 9)]
    account.document(page(1), [], None, edits, None, STAGES)
    assert account.edits["pii.email"] == {"spans": 2, "characters": 7}


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (0, "0"),
        (123.4, "120"),
        (0.01234, "0.012"),
        (99_999, "100000"),
        (-5.55, "-5.5"),
        (True, "1"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        ("en", "en"),
        ("x" * 33, None),
        (None, None),
    ],
)
def test_histogram_bins(value, key):
    assert histogram_key(value) == key
