"""Remembered element tests give what the expressions they stand for give."""

from __future__ import annotations

import lxml.html
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from filters import element_tests
from filters.element_tests import RememberedTest, looks_at_itself_only, remembered

RE = {"re": "http://exslt.org/regular-expressions"}
MENU = etree.XPath(
    ".//*[self::div or self::p][@id='x' or re:test(@id|@class, '^nav|menu') or "
    "@aria-hidden='true']",
    namespaces=RE,
)


@pytest.mark.parametrize(
    ("path", "alone"),
    [
        (".//*[self::div][@class='a']", True),
        (".//*[contains(@class, 'a/b|c') or re:test(@id|@class, 'text(')]", True),
        (".//*[self::div][@class='a'][1]", False),
        (".//*[self::div][.//h1]", False),
        (".//*[self::div]|.//p", False),
        (".//*[ancestor::div]", False),
        (".//*[text()]", False),
        (".//*[position() = 1]", False),
        (".//header", False),
        ("(.//*[self::div])[1]", False),
    ],
)
def test_only_expressions_about_the_element_itself_are_exchanged(path, alone):
    assert looks_at_itself_only(path) is alone


VALUES = st.sampled_from(["", "nav", "menu", "x", "a nav", "true", "main menu", "é"])
ATTRIBUTES = st.lists(
    st.tuples(st.sampled_from(["id", "class", "aria-hidden", "style"]), VALUES), max_size=4
)
ELEMENTS = st.lists(st.tuples(st.sampled_from(["div", "p", "span", "li"]), ATTRIBUTES), max_size=12)


@settings(deadline=None)
@given(st.lists(ELEMENTS, min_size=1, max_size=4))
def test_results_and_order_are_the_same_over_many_pages(pages):
    fast = RememberedTest(MENU)
    for page in pages:
        root = lxml.html.Element("body")
        parent = root
        for place, (tag, attributes) in enumerate(page):
            child = etree.SubElement(parent, tag)
            for name, value in attributes:
                child.set(name, value)
            parent = child if place % 2 else root
        assert fast(root) == MENU(root)


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(element_tests, "MAX_REMEMBERED", 3)
    fast = RememberedTest(MENU)
    for number in range(20):
        page = lxml.html.fromstring(f"<div><p class='n{number}'>a</p><p id='x'>b</p></div>")
        assert [e.get("id") for e in fast(page)] == ["x"]
    assert len(fast._known) <= 5


def test_trafilatura_gives_the_same_text_with_and_without():
    from conftest import ROOT

    from filters.extraction import parse
    from pipelines.sources.records import read_records

    with open(ROOT / "samples" / "crawl.warc.gz", "rb") as handle:
        records = read_records("warc", handle, name="", source="", identify="{:032x}".format)
        pages = [r.html for r in records if getattr(r, "html", "")]
    element_tests.install()
    from trafilatura import extract, xpaths

    fast = [extract(parse(page), favor_precision=True) for page in pages]
    changed = {
        name: list(value)
        for name, value in vars(xpaths).items()
        if name.isupper() and isinstance(value, list)
    }
    assert any(isinstance(e, RememberedTest) for e in changed["OVERALL_DISCARD_XPATH"])
    for name, value in changed.items():
        getattr(xpaths, name)[:] = [
            e._expression if isinstance(e, RememberedTest) else e for e in value
        ]
    try:
        plain = [extract(parse(page), favor_precision=True) for page in pages]
    finally:
        for name, value in changed.items():
            getattr(xpaths, name)[:] = value
    assert fast == plain
    assert sum(text is not None for text in fast) > 40


def test_what_is_no_expression_of_that_kind_is_left_alone():
    marker, header = object(), etree.XPath(".//header")
    assert remembered([marker, header]) == [marker, header]
