"""Which pages hold mathematics: tags in the markup, symbols in the text, a list of domains.

The three filters of Apple's foundation models (2024 report, section 3.1), as signals. The lists
and the two thresholds are this project's own, for Apple published neither.
"""

from __future__ import annotations

from collections.abc import Mapping

from filters.document import Value
from filters.math_domains import Verdict, default_domains, judge
from filters.math_symbols import count_symbols
from filters.math_tags import find_tags
from filters.signal import Bound, Signal

MIN_DISTINCT = 4
"""Different symbols that make a text mathematics, with ``MIN_DENSITY``, without a tag."""

MIN_DENSITY = 1.0
"""Symbols in 1,000 characters that make a text mathematics, with ``MIN_DISTINCT``."""

MIN_SYMBOLS_WITH_TAG = 1
"""Symbols of the text that bear out a tag of the markup: many blogs load MathJax and write no
formula, and a formula that the extractor lost is no mathematics in the corpus."""

_AFM = "Apple foundation models 2024, section 3.1; list and bound tuned by this project"

SIGNALS: tuple[Signal, ...] = (
    Signal(
        "math.tags",
        "int",
        "tags",
        "different strings of the markup that announce mathematics, of 40",
        _AFM,
        Bound(min=1),
    ),
    Signal("math.symbols", "int", "symbols", "mathematical symbols in the text", _AFM),
    Signal(
        "math.distinct_symbols",
        "int",
        "symbols",
        "different mathematical symbols in the text, of 350",
        _AFM,
        Bound(min=MIN_DISTINCT),
    ),
    Signal(
        "math.symbol_density",
        "float",
        "symbols per 1000 characters",
        "mathematical symbols in 1,000 characters of text",
        _AFM,
        Bound(min=MIN_DENSITY),
    ),
    Signal(
        "math.domain",
        "str",
        "verdict",
        "what the list of domains says of the page's host: accept, reject or unknown",
        _AFM,
        Bound(none_of=("reject",)),
    ),
    Signal(
        "math.is_math",
        "bool",
        "truth",
        "the page is mathematics: an accepted domain, or one not rejected with a tag that symbols "
        "bear out or with enough different and dense symbols",
        _AFM,
        Bound(min=1),
    ),
)


def is_math(domain: str, tags: int, symbols: int, distinct: int, density: float) -> bool:
    """The decision over the three filters; ``domain`` is the list's verdict."""
    if domain != "unknown":
        return domain == "accept"
    if tags > 0 and symbols >= MIN_SYMBOLS_WITH_TAG:
        return True
    return distinct >= MIN_DISTINCT and density >= MIN_DENSITY


def measure(
    text: str, html: str, domain: str, verdicts: Mapping[str, Verdict] | None = None
) -> dict[str, Value]:
    """All signals of ``SIGNALS`` for one page.

    ``html`` may be empty (a source of plain text), and so may ``domain``, the page's host name.
    ``verdicts`` replaces the package's list of domains; ``math_domains.read_domains`` extends it.
    """
    tags = len(find_tags(html)) if html else 0
    counts = count_symbols(text)
    symbols = sum(counts.values())
    density = 1000 * symbols / len(text) if text else 0.0
    verdict = judge(domain, default_domains() if verdicts is None else verdicts)
    return {
        "math.tags": tags,
        "math.symbols": symbols,
        "math.distinct_symbols": len(counts),
        "math.symbol_density": density,
        "math.domain": verdict,
        "math.is_math": is_math(verdict, tags, symbols, len(counts), density),
    }


def evidence(text: str, html: str, limit: int = 3) -> str:
    """The first tag and the first ``limit`` symbols found, such as ``mathjax, \\frac, \\int``."""
    tags = find_tags(html)[:1] if html else []
    return ", ".join([*tags, *list(count_symbols(text))[:limit]])
