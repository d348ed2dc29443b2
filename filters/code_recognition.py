"""Which texts hold program code: documentation, questions with snippets, raw source.

The signals serve to keep code, not to drop it: they lift rules made for prose, such as C4's rule
against braces (Raffel et al. 2020, section 2.2), which would delete most code documentation.
LaTeX is not code here; ``math_recognition`` sees to it.
"""

from __future__ import annotations

import re
from itertools import islice

from filters.code_language import marked_language, voted_language
from filters.code_lines import is_code_line
from filters.document import Value
from filters.signal import Bound, Signal

MIN_LINES_RATIO = 0.2
"""Share of lines that look like code which makes a text code, whatever its markup."""

MIN_LINES_RATIO_WITH_BLOCK = 0.05
"""The same share where the markup has a block of code as well."""

MIN_BLOCK_LINES = 3
"""Lines of the shortest ``<pre>`` or ``<code>`` element that counts as a block."""

MAX_LINES = 1000
"""Non-empty lines that are judged; a longer text is judged by its first ones."""

_VOTING_LINES = 100
_MARKED_BLOCKS = 20

_SOURCE = "heuristics of this project; bounds tuned on source files, manuals and prose"

SIGNALS: tuple[Signal, ...] = (
    Signal(
        "code.lines_ratio",
        "float",
        "ratio",
        f"share of the first {MAX_LINES} non-empty lines that look like program code",
        _SOURCE,
        Bound(min=MIN_LINES_RATIO),
    ),
    Signal(
        "code.blocks",
        "int",
        "blocks",
        f"<pre> and outermost <code> elements of {MIN_BLOCK_LINES} lines or more in the markup",
        _SOURCE,
        Bound(min=1),
    ),
    Signal(
        "code.is_code",
        "bool",
        "truth",
        f"the text holds code: lines_ratio >= {MIN_LINES_RATIO}, or >= "
        f"{MIN_LINES_RATIO_WITH_BLOCK} with a block in the markup",
        _SOURCE,
        Bound(min=1),
    ),
    Signal(
        "code.language",
        "str",
        "name",
        "programming language that most blocks are marked with, else the one of which most lines "
        "of code are typical; not measured where the text is not code",
        _SOURCE,
    ),
)

_OPENING = re.compile("<(?:pre|code|PRE|CODE)[ >\n\t]")
_LINE_BREAK = re.compile(r"\n|<br|</div|</li|</tr", re.IGNORECASE)


def find_blocks(html: str) -> list[tuple[int, int]]:
    """Spans of the ``<pre>`` and outermost ``<code>`` elements with ``MIN_BLOCK_LINES`` lines.

    An element that is never closed ends the search: the rest of the page is no block of code.
    A line ends at a newline, and where markup lays out lines (``br``, ``div``, ``li``, ``tr``).
    """
    spans: list[tuple[int, int]] = []
    position = 0
    while opening := _OPENING.search(html, position):
        start = opening.end()
        closing = "</" + opening[0][1:-1]
        end = html.find(closing, start)
        if end < 0:
            break
        breaks = islice(_LINE_BREAK.finditer(html, start, end), MIN_BLOCK_LINES - 1)
        if sum(1 for _ in breaks) == MIN_BLOCK_LINES - 1 and html[start:end].strip():
            spans.append((start, end))
        position = end
    return spans


def measure(text: str, html: str) -> dict[str, Value]:
    """All signals of ``SIGNALS`` for one page; ``html`` may be empty (a source of plain text)."""
    total = 0
    code: list[str] = []
    for line in islice(filter(str.strip, text.split("\n")), MAX_LINES):
        total += 1
        if is_code_line(line):
            code.append(line)
    ratio = len(code) / total if total else 0.0
    spans = find_blocks(html) if html else []
    is_code = ratio >= (MIN_LINES_RATIO_WITH_BLOCK if spans else MIN_LINES_RATIO)
    language = None
    if is_code:
        marks = (html[max(0, start - 200) : start + 100] for start, _ in spans[:_MARKED_BLOCKS])
        language = marked_language(marks) or voted_language(code[:_VOTING_LINES])
    return {
        "code.lines_ratio": ratio,
        "code.blocks": len(spans),
        "code.is_code": is_code,
        "code.language": language,
    }


def evidence(text: str, limit: int = 80) -> str:
    """The first line that looks like code, cut to ``limit`` characters."""
    lines = islice(filter(str.strip, text.split("\n")), MAX_LINES)
    return next((line.strip()[:limit] for line in lines if is_code_line(line)), "")
