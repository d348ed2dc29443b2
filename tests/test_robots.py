"""Robots directives in meta elements and in X-Robots-Tag headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.robots import DIRECTIVES, directives


def stated(
    html: str = "", headers: list[str] | None = None, agents: tuple[str, ...] = ()
) -> set[str]:
    return {
        name for name, is_stated in directives(html, headers or [], agents).items() if is_stated
    }


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ('<meta name="robots" content="noindex, nofollow">', {"noindex", "nofollow"}),
        ("<META NAME=ROBOTS CONTENT=NOINDEX>", {"noindex"}),
        ("<meta content='noai,noimageai' name='robots'/>", {"noai", "noimageai"}),
        ('<meta name="robots" content="none">', {"noindex", "nofollow"}),
        ('<meta name="robots" content="nocache">', {"noarchive"}),
        ('<meta name="robots" content="index, follow, max-snippet:-1">', set()),
        ('<meta name="robots" content="noindexing">', set()),
        ('<meta name="googlebot" content="noindex">', set()),
        ('<meta name="description" content="noindex">', set()),
        ('<!-- <meta name="robots" content="noindex"> -->', set()),
        ('<script>"<meta name=robots content=noindex>"</script>', set()),
        (
            '<meta charset="utf-8"><meta data-x="a>b" name="robots" content="noarchive">',
            {"noarchive"},
        ),
        ('<metadata name="robots" content="noindex">', set()),
        ('<meta name="robots" content="noindex', set()),
        ('<meta name="robots"><meta content="noindex">', set()),
        ('<body><meta name="robots" content="noai"></body>', {"noai"}),
    ],
)
def test_meta_elements(html: str, expected: set[str]) -> None:
    assert stated(html) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (["noindex"], {"noindex"}),
        (["NoIndex, noarchive"], {"noindex", "noarchive"}),
        (["otherbot: noindex, nofollow"], set()),
        (["otherbot: noindex", "nofollow"], {"nofollow"}),
        (["robots: noai"], {"noai"}),
        (["unavailable_after: 25 Jun 2010 15:00:00 PST"], set()),
        (["unavailable_after: Sun, 25 Jun 2010 15:00:00 PST, noindex"], {"noindex"}),
        (["max-snippet: 10, noai"], {"noai"}),
        (["", ",", ":"], set()),
    ],
)
def test_headers(headers: list[str], expected: set[str]) -> None:
    assert stated(headers=headers) == expected


def test_named_agents_are_honoured_besides_robots() -> None:
    page = '<meta name="CCBot" content="noindex"><meta name="robots" content="noai">'
    assert stated(page) == {"noai"}
    assert stated(page, agents=("ccbot",)) == {"noai", "noindex"}
    header = ["ccbot: noindex, gptbot: noai"]
    assert stated(headers=header, agents=("CCBot ",)) == {"noindex"}
    assert stated(headers=header, agents=("ccbot", "gptbot")) == {"noindex", "noai"}


def test_the_most_restrictive_of_several_wins() -> None:
    assert stated('<meta name="robots" content="index">', ["noindex"]) == {"noindex"}


@given(st.text(max_size=300), st.lists(st.text(max_size=40), max_size=3))
def test_any_text_has_an_answer(html: str, headers: list[str]) -> None:
    assert tuple(directives(html, headers)) == DIRECTIVES


def test_hostile_markup_is_scanned_in_linear_time() -> None:
    for piece in ("<meta ", "<meta a=", '<meta "', "<!--", "<script ", "<meta a='", "<meta a a "):
        stated(piece * (500_000 // len(piece)))
