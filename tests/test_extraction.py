"""Main text extraction: what is kept, what is capped, and that pages do not touch each other."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.extraction import ExtractionOptions, PageTooLarge, extract, measure

SENTENCE = "The orchard stands on a hill above the river, and the trees in it are very old."
PARAGRAPHS = "".join(f"<p>{SENTENCE} This is number {n} of them.</p>" for n in range(5))


def page(body: str, head: str = "") -> str:
    return f"""<html><head><title> A  title </title>{head}</head><body><nav><a href="/">Home</a>
<a href="/x">Elsewhere</a></nav><main><article>{body}</article></main>
<footer>All rights reserved</footer></body></html>"""


def text_of(body: str, **options) -> str:
    return extract(page(body), options=ExtractionOptions(**options)).text


def test_text_without_menu_and_footer_one_paragraph_a_line():
    found = extract(page(PARAGRAPHS))
    assert found.title == "A title"
    assert found.text.split("\n") == [f"{SENTENCE} This is number {n} of them." for n in range(5)]


def test_code_keeps_its_lines():
    code = "def f(x):\n    if x:\n        return {1: 2}"
    assert code in text_of(f"{PARAGRAPHS}<pre><code>{code}</code></pre>")


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        (r'<script type="math/tex">\frac{a}{b}</script>', r"$\frac{a}{b}$"),
        (r'<script type="math/tex; mode=display">x^2</script>', "$$x^2$$"),
        (
            '<span class="katex"><span class="katex-mathml"><math><semantics><mi>x</mi>'
            r'<annotation encoding="application/x-tex">\alpha</annotation></semantics></math>'
            '</span><span class="katex-html">drawn</span></span>',
            r"$\alpha$",
        ),
        (
            '<span class="mwe-math-element"><math alttext="{\\displaystyle E=mc^2}"><mi>E</mi>'
            '</math><img class="mwe-math-fallback" alt="E"></span>',
            "$E=mc^2$",
        ),
        (r'<img class="latex" src="/x.png" alt="\sqrt{2}">', r"$\sqrt{2}$"),
        ('<img src="http://s.test/latex.php?latex=a%2Bb" alt="">', "$a+b$"),
        ('<mjx-container display="true"><math alttext="y=1"></math></mjx-container>', "$$y=1$$"),
    ],
)
def test_formulas_become_latex_in_their_place(markup, text):
    found = text_of(f"{PARAGRAPHS}<p>The value is {markup} as we have seen before.</p>")
    assert f"The value is {text} as we have seen before." in found
    assert "drawn" not in found


def test_mathml_without_a_source_is_left_alone():
    found = text_of(f"{PARAGRAPHS}<p>Here <math><mi>q</mi></math> is a number of trees.</p>")
    assert "$" not in found


def test_a_price_is_no_formula():
    assert "It costs $5 or $6 today." in text_of(f"{PARAGRAPHS}<p>It costs $5 or $6 today.</p>")


@pytest.mark.parametrize("html", ["", "   ", "<!-- only a comment -->", "\0\0", "<frameset>"])
def test_no_text_is_no_error(html):
    assert extract(html).text == ""


def test_caps_are_checked_before_parsing():
    options = ExtractionOptions(elements=10, characters=1000)
    assert extract("<b>" * 10, options=options).text == ""
    with pytest.raises(PageTooLarge, match=r"11 elements; the cap extract\.elements is 10"):
        extract("<b>" * 11, options=options)
    assert extract("a" * 1000, options=options) is not None
    with pytest.raises(PageTooLarge, match="1001 characters; the cap"):
        extract("a" * 1001, options=options)


def test_deeply_nested_markup_ends():
    extract("<div>" * 20_000 + SENTENCE)


def test_pages_do_not_touch_each_other():
    first = extract(page(PARAGRAPHS)).text
    for _ in range(5):
        assert extract(page(PARAGRAPHS)).text == first


def test_comments_are_an_option():
    body = PARAGRAPHS + f'</article><div id="comments" class="comments"><p>{SENTENCE} Me too.</p>'
    assert "Me too." not in text_of(body)


def test_declared_encodings_in_decoded_pages_are_ignored():
    html = '<?xml version="1.0" encoding="windows-1251"?>' + page(
        f"{PARAGRAPHS}<p>Яблони стоят на холме над рекой.</p>", '<meta charset="windows-1251">'
    )
    assert "Яблони стоят на холме над рекой." in extract(html).text


def test_options_are_checked():
    with pytest.raises(ValueError, match="mode is 'quick'; it must be one of balanced"):
        ExtractionOptions(mode="quick")
    with pytest.raises(ValueError, match="elements is 0; it must be at least 1"):
        ExtractionOptions(elements=0)


def test_signals():
    assert measure("abcd", "<p>abcd</p>") == {
        "extract.characters": 4,
        "extract.share": pytest.approx(4 / 11),
        "extract.elements": 2,
    }
    assert measure("abcd", "")["extract.share"] is None


@settings(max_examples=40, deadline=None)
@given(st.text())
def test_any_text_is_taken_for_a_page_without_error(html):
    extract(html)
    extract(f"<p>{html}</p><math>{html}</math>")
