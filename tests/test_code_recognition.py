from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters import code_recognition as cr
from filters.code_language import marked_language, voted_language
from filters.code_lines import MAX_LINE, is_code_line

PROSE = "The orchard lay behind the house, and nobody had pruned it for years."
CODE = "result = compute(value, 3)"
BLOCK = "<pre>a\nb\nc</pre>"

CODE_LINES = {
    "python": [
        "def area(radius):",
        "    for item in range(10):",
        "from os import path",
        "import numpy as np",
        "return total",
        "x = [1, 2, 3]",
        "@property",
        ">>> print(1)",
        "try:",
        "self.items.append(item)",
    ],
    "c": [
        "#include <stdio.h>",
        "int main(void) {",
        "count++;",
        "}",
        "p->next = NULL;",
        "/* note */",
    ],
    "c++": ["std::vector<int> v;", "template <typename T>{", "using namespace std;"],
    "java": ["public class Main {", "import java.util.List;", "@Override", "package a.b;"],
    "javascript": [
        "const total = items.map(f)",
        "items.forEach(item => {",
        "});",
        "import x from './x'",
        "// a comment",
        'export * from "./main";',
    ],
    "shell": ["#!/bin/sh", "$ ls -l", "sudo apt-get install vim", "fi", "NAME=value", "echo $HOME"],
    "sql": ["SELECT name FROM users", "INSERT INTO t VALUES (1);", "WHERE id = 3", "GROUP BY name"],
    "html": ['<div class="a">', "</table>", "<?php", "<!-- note -->", "<li>One</li>"],
    "go": ["func main() {", "x := 3", "package main", "if err != nil {"],
    "rust": ["fn main() {", "let mut x = 5", "use std::io;", "#[derive(Debug)]", "pub mod a;"],
    "r": ["library(ggplot2)", "x <- c(1, 2)", "my.mean <- function(x) {"],
    "matlab": ["function y = f(x)", "A = zeros(3);", "end", "disp(A)"],
    "ruby": ["require 'set'", "class Cat < Animal", "def name", "end", "puts 'x'"],
    "swift": ["let name: String", "guard let x = y else {", "override func run() {"],
    "json": ['"name": "value",', "},", "]"],
}

PROSE_LINES = [
    PROSE,
    "If you are for it, let us know.",
    "For every child (and every parent) there is a place.",
    "Import duties were raised in the spring.",
    "Return to the house before dark",
    "from here to the sea",
    "class was over by noon",
    "let us have a cut at this same pie.",
    "my thick boots, and he made his bell sound,",
    "The end",
    "Open daily: 9 to 5",
    "First, the bread; second, the wine;",
    'He said: "I was never there."',
    "Price: $5.00 (two for $9)",
    "See chapter 3 (page 12).",
    "* a point of a list",
    "- another point",
    "# Heading of a section",
    "1. First step",
    "2 + 2 = 4 is known to all.",
    "https://example.org/a/b?c=d",
    "someone@example.org",
    "12:30",
    "Ein Satz, der mit einem Punkt endet.",
    "這是一個句子。",
    "<unk> was known to the author .",
    "-- Anonymous",
    "Chapter 4: The return",
    "A while later (much later), she left",
    "select all that apply",
    "do not enter",
    "case closed",
]


@pytest.mark.parametrize(
    ("language", "line"), [(name, line) for name, lines in CODE_LINES.items() for line in lines]
)
def test_lines_of_code_are_known(language: str, line: str) -> None:
    assert is_code_line(line), language
    assert is_code_line(f"\t  {line}  \r")


@pytest.mark.parametrize("line", PROSE_LINES)
def test_lines_of_prose_are_not_code(line: str) -> None:
    assert not is_code_line(line)


@pytest.mark.parametrize(
    "line",
    [
        r"\begin{equation}",
        r"\[ x = \frac{a}{b} \]",
        r"x = \alpha + \beta \\",
        r"$f(x) = x^2$",
    ],
)
def test_latex_is_not_code(line: str) -> None:
    assert not is_code_line(line)


def test_long_lines_are_not_judged() -> None:
    assert is_code_line("x = '" + "a" * (MAX_LINE - 6) + "'")
    assert not is_code_line("x = '" + "a" * (MAX_LINE - 5) + "'")


def share(code: int, of: int) -> str:
    return "\n\n".join([CODE] * code + [PROSE] * (of - code))


def test_bound_without_a_block() -> None:
    inside, outside = cr.measure(share(20, 100), ""), cr.measure(share(19, 100), "")
    assert inside["code.lines_ratio"] == cr.MIN_LINES_RATIO == 0.2
    assert inside["code.is_code"] is True
    assert outside["code.is_code"] is False


def test_bound_with_a_block() -> None:
    inside, outside = cr.measure(share(5, 100), BLOCK), cr.measure(share(4, 100), BLOCK)
    assert inside["code.lines_ratio"] == cr.MIN_LINES_RATIO_WITH_BLOCK == 0.05
    assert inside["code.is_code"] is True
    assert outside["code.is_code"] is False


def test_a_block_without_code_is_not_code() -> None:
    poem = "<pre>Over the hill\nthe evening goes\nand nobody calls</pre>"
    measured = cr.measure("Over the hill\nthe evening goes\nand nobody calls", poem)
    assert measured["code.blocks"] == 1
    assert measured["code.is_code"] is False
    assert measured["code.language"] is None


def test_only_the_first_lines_are_judged() -> None:
    text = "\n".join([PROSE] * cr.MAX_LINES)
    assert cr.measure(text + f"\n{CODE}" * cr.MAX_LINES, "")["code.lines_ratio"] == 0.0
    assert cr.measure(f"{CODE}\n{text}", "")["code.lines_ratio"] == 1 / cr.MAX_LINES


@pytest.mark.parametrize(
    ("html", "blocks"),
    [
        ("", 0),
        ("<pre>a\nb</pre>", 0),
        ("<pre>a\nb\nc</pre>", 1),
        ("<pre>a\nb\nc\nd\ne</pre>", 1),
        ("<PRE CLASS=x>a\nb\nc</PRE>", 1),
        ("<pre><code class='x'>a\nb\nc</code></pre>", 1),
        ("<code>a<br>b<br/>c</code>", 1),
        ("<code>a()</code> and <code>b()</code>", 0),
        ("<pre><div>a</div><div>b</div></pre>", 1),
        ("<pre>a\nb\nc</pre><p>x</p><pre>d\ne\nf</pre>", 2),
        ("<pre>a\nb\nc", 0),
        ("<pre>\n\n\n</pre>", 0),
        ("<present>a\nb\nc</present>", 0),
    ],
)
def test_blocks_of_three_lines_count(html: str, blocks: int) -> None:
    assert cr.measure("", html)["code.blocks"] == blocks


def test_the_mark_of_the_blocks_names_the_language() -> None:
    text = share(10, 10)
    html = '<div class="highlight-python3 notranslate"><pre>a\nb\nc</pre></div>'
    assert cr.measure(text, html)["code.language"] == "python"
    html = '<pre><code class="hljs language-rs">a\nb\nc</code></pre>'
    assert cr.measure(text, html)["code.language"] == "rust"


def test_most_marks_win_and_unknown_marks_are_skipped() -> None:
    marks = ['class="language-js"', 'class="lang-py"', 'class="language-py"', 'data-lang="x"']
    assert marked_language(marks) == "python"
    assert marked_language(['class="lang-en"', "class=big"]) is None
    assert marked_language([]) is None
    assert marked_language(['data-lang="sql"']) == "sql"


@pytest.mark.parametrize("language", sorted(set(CODE_LINES) - {"json", "r", "matlab", "swift"}))
def test_lines_vote_for_their_language(language: str) -> None:
    assert voted_language(CODE_LINES[language]) == language


def test_no_typical_line_no_language() -> None:
    assert voted_language(["foo(bar)", "x"]) is None
    assert voted_language([]) is None


def test_evidence_is_the_first_line_of_code() -> None:
    assert cr.evidence(f"{PROSE}\n   {CODE}\n") == CODE
    assert cr.evidence(CODE, limit=6) == CODE[:6]
    assert cr.evidence(PROSE) == ""


def test_the_signals_are_those_declared() -> None:
    measured = cr.measure(CODE_LINES["python"][0], BLOCK)
    kinds = {"int": int, "float": float, "bool": bool, "str": str}
    assert list(measured) == [signal.name for signal in cr.SIGNALS]
    for signal in cr.SIGNALS:
        assert type(measured[signal.name]) is kinds[signal.kind]
        assert signal.stage == "code"


@pytest.mark.parametrize(
    "text",
    [
        "\x00",
        "\ud800",
        "a" * 1_000_000,
        "\n" * 1_000_000,
        "<pre>" * 200_000,
        "<pre>\n\n\nx</pre>" * 50_000,
        ("a" * 398 + "\n") * 2_000,
        ("a." * 199 + "\n") * 2_000,
        ("f(" * 199 + "\n") * 2_000,
        ("if (" * 99 + "\n") * 2_000,
        ("x [" * 130 + "\n") * 2_000,
        ("class=language " * 26 + "\n") * 2_000,
        ("import " + "a." * 190 + "\n") * 2_000,
        ("import " + "a, " * 130 + "!\n") * 2_000,
        ("<a " * 130 + "\n") * 2_000,
    ],
    ids=lambda text: repr(text[:8]),
)
def test_awkward_texts_are_measured_in_time(text: str) -> None:
    cr.measure(text, text)


@given(st.text(), st.text())
def test_any_page_is_measured(text: str, html: str) -> None:
    measured = cr.measure(text, html)
    ratio, blocks = measured["code.lines_ratio"], measured["code.blocks"]
    assert isinstance(ratio, float)
    assert isinstance(blocks, int)
    assert 0 <= ratio <= 1
    assert blocks <= html.lower().count("<pre") + html.lower().count("<code")
    assert (cr.evidence(text) != "") == (ratio > 0)


_SOUP = st.lists(st.sampled_from([PROSE, CODE, "", "}", "<b>"]), max_size=30)


@given(_SOUP)
def test_the_order_of_lines_does_not_matter(lines: list[str]) -> None:
    before = cr.measure("\n".join(lines), "")["code.lines_ratio"]
    assert cr.measure("\n".join(reversed(lines)), "")["code.lines_ratio"] == before
