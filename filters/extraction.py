"""Main text extraction: from a page's markup to the text a reader came for.

The work is trafilatura's (Barbaresi 2021, "Trafilatura: A Web Scraping Library"). Around it: caps
before anything is parsed, one parse instead of several, formulas kept as LaTeX, and no state that
would let one page change the text of the next.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import lxml.html
from lxml import etree

from filters import element_tests
from filters.document import Value
from filters.math_markup import inline_formulas, may_hold_formulas
from filters.signal import Bound, Signal

MODES = ("balanced", "precision", "recall", "fast")

SIGNALS: tuple[Signal, ...] = (
    Signal(
        "extract.characters",
        "int",
        "characters",
        "length of the extracted text; 0 where the page has no main text",
        "trafilatura 2.3",
        Bound(min=1),
    ),
    Signal(
        "extract.share",
        "float",
        "ratio",
        "extracted characters over characters of markup; not measured on plain text",
        "own",
    ),
    Signal(
        "extract.elements",
        "int",
        "elements",
        "angle brackets that open a tag in the markup; 0 for plain text",
        "own",
    ),
)


class PageTooLarge(ValueError):
    """The page exceeds a cap; extraction was not tried."""

    explains = True


@dataclass(frozen=True)
class ExtractionOptions:
    """How to extract.

    ``mode``: ``balanced`` is trafilatura's default with its fallbacks, ``fast`` leaves the
    fallbacks out, ``precision`` and ``recall`` are its own settings of those names. ``comments``
    keeps readers' comments. ``elements`` and ``characters`` are caps on the markup.
    """

    mode: str = "balanced"
    comments: bool = False
    tables: bool = True
    elements: int = 200_000
    characters: int = 8_000_000

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode is {self.mode!r}; it must be one of {', '.join(MODES)}")
        for name in ("elements", "characters"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


@dataclass(frozen=True, slots=True)
class Extracted:
    """The main text, blocks separated by newlines, and the page's title."""

    text: str
    title: str


def extract(html: str, url: str = "", options: ExtractionOptions | None = None) -> Extracted:
    """The main text of a page.

    Empty markup, or markup without main text, gives an empty text.

    Raises:
      PageTooLarge: the markup exceeds a cap of ``options``.
    """
    options = options or ExtractionOptions()
    _check(html, options)
    tree = parse(html)
    if tree is None:
        return Extracted("", "")
    if may_hold_formulas(html):
        inline_formulas(tree)
    title = _title(tree)
    text = _main_text(tree, url, options)
    return Extracted(text, title)


def _check(html: str, options: ExtractionOptions) -> None:
    if len(html) > options.characters:
        raise PageTooLarge(
            f"the page has {len(html)} characters; the cap extract.characters is "
            f"{options.characters}"
        )
    elements = html.count("<")
    if elements > options.elements:
        raise PageTooLarge(
            f"the page has {elements} elements; the cap extract.elements is {options.elements}"
        )


_DECLARATION = re.compile(r"^\s*<\?xml[^>]{0,200}\?>", re.IGNORECASE)
_CONTROL = bytes(n for n in range(32) if n not in b"\t\n\r")


def parse(html: str) -> lxml.html.HtmlElement | None:
    """The page as a tree, or ``None`` where there is no element in it.

    Characters that no XML tree can hold are dropped, and so is an XML declaration, whose encoding
    no longer holds once the page is decoded.
    """
    text = _DECLARATION.sub("", html)
    if "\ufffe" in text or "\uffff" in text:
        text = text.replace("\ufffe", "").replace("\uffff", "")
    clean = text.encode("utf-8", "ignore").translate(None, _CONTROL)
    if not clean.strip():
        return None
    parser = etree.HTMLParser(
        encoding="utf-8", remove_comments=True, remove_pis=True, collect_ids=False
    )
    # One class for all elements: choosing a class by tag calls back into Python for each element
    # each time it is touched, a tenth of the time of extraction.
    parser.set_element_class_lookup(etree.ElementDefaultClassLookup(lxml.html.HtmlElement))
    try:
        tree = lxml.html.document_fromstring(clean, parser=parser)
    except etree.ParserError:
        return None
    return tree


def _title(tree: lxml.html.HtmlElement) -> str:
    found = tree.find(".//title")
    title = "" if found is None else found.text_content()
    return " ".join(title.split())[:500]


def _main_text(tree: lxml.html.HtmlElement, url: str, options: ExtractionOptions) -> str:
    # Imported here: trafilatura takes a second, and workers that only finish need none of it.
    from trafilatura import extract as extract_main_text

    element_tests.install()
    text = extract_main_text(
        tree,
        url=url or None,
        fast=options.mode == "fast",
        favor_precision=options.mode == "precision",
        favor_recall=options.mode == "recall",
        include_comments=options.comments,
        include_tables=options.tables,
        deduplicate=False,
        with_metadata=False,
    )
    return text or ""


def measure(text: str, html: str) -> dict[str, Value]:
    """The signals of an extracted text beside its markup (empty for plain text)."""
    return {
        "extract.characters": len(text),
        "extract.share": len(text) / len(html) if html else None,
        "extract.elements": html.count("<"),
    }
