"""Which of 40 strings that announce mathematics stand in the markup of a page."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources

# Every tag string matches one of these. They start with a literal, which the regex engine looks
# for much faster than for 40 strings, and leave out "text", "Math.floor", "aria-expanded".
_ANCHORS = (
    re.compile(
        rb"math(?:jax|-container|/tex|/asciimath|2jax|&gt;|-element|-fallback|inelement"
        rb"|(?<=<math)|(?<=ltx_math)|(?<=ztext-math))"
    ),
    re.compile(
        rb"x(?:(?<=katex)|(?<=x-tex)|(?<=latex)(?:\.php|center|display|block)"
        rb"|(?<=tex)(?:[\"'\]]|\.cgi|x\]|error|2jax)"
        rb"|(?<=mjx)-|(?<=data-ex)pr=|-ck12|mlns:mml|t=\"(?<=alttext=\"))"
    ),
    re.compile(rb"codecogs"),
)


@cache
def tag_strings() -> tuple[str, ...]:
    """The 40 tag strings, as the package lists them.

    The list is this project's own: Apple's foundation models (2024 report, section 3.1) used 40
    strings it did not publish. These come from OpenWebMath's prefilter and from the class names
    of MathJax, KaTeX, MediaWiki and LaTeXML.
    """
    data = json.loads(resources.files("filters").joinpath("data/math_tags.json").read_bytes())
    return tuple(row["tag"] for row in data["tags"])


@cache
def _needles() -> tuple[tuple[str, bytes], ...]:
    return tuple((tag, tag.lower().encode()) for tag in tag_strings())


def may_hold_tag(markup: bytes) -> bool:
    """Whether lower-case ``markup`` can hold a tag string; quick, and never wrongly false."""
    return any(anchor.search(markup) for anchor in _ANCHORS)


def find_tags(html: str) -> list[str]:
    """The tag strings found in ``html``, each once, in the order of the list.

    ASCII case is ignored, as in HTML's own names. Three quick scans rule out most pages before
    the 40 strings are looked for one by one.
    """
    markup = html.encode("utf-8", "surrogatepass").lower()
    if not may_hold_tag(markup):
        return []
    return [tag for tag, needle in _needles() if needle in markup]
