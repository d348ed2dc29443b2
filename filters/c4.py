"""C4's rules (Raffel et al. 2020, section 2.2): lines that are removed, and signals of the page.

Paper and original code differ: the paper keeps lines of 3 words and pages of 5 sentences, the
code asks for 5 words and 3 sentences. ``PAPER`` and ``ORIGINAL`` hold both; datatrove follows the
paper. The default is FineWeb's use of it (Penedo et al. 2024, section 3.5): as the paper, but lines
need no terminal punctuation, which costs a third of all text.

Ends of lines are the marks of all scripts and closing quotation marks (C4: ``. ! ? "``; datatrove:
``'`` too), space before a removed citation overlooked. Signals of the page look at the lines that
were kept, as datatrove's do but for the lines that mention policies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from filters.document import Edit, Value
from filters.signal import Bound, Signal
from filters.words import CLOSING_QUOTES, MARKS, TextView

STAGE = "c4"

SIGNALS: tuple[Signal, ...] = (
    Signal(
        "c4.lorem_ipsum",
        "int",
        "occurrences",
        "times that 'lorem ipsum' stands in the text",
        "C4 (Raffel et al. 2020), section 2.2",
        Bound(max=0),
    ),
    Signal(
        "c4.curly_bracket",
        "int",
        "characters",
        "opening curly brackets in the text; LaTeX and code have them too, so lift the rule there",
        "C4 (Raffel et al. 2020), section 2.2",
        Bound(max=0),
    ),
    Signal(
        "c4.sentences",
        "int",
        "sentences",
        "sentences in the lines that were kept",
        "C4 (Raffel et al. 2020), section 2.2: 5, as in datatrove; original code: 3",
        Bound(min=5),
    ),
)

POLICIES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
LINE_ENDS = MARKS + CLOSING_QUOTES
_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")


@dataclass(frozen=True)
class C4Options:
    """Which lines go.

    Lines of fewer than ``min_words`` words; with ``terminal_punctuation``, lines that do not end
    in a mark, or end in an ellipsis; lines with a word of more than ``max_word_length``
    characters; with ``javascript`` and ``policies``, lines that mention JavaScript or cookie and
    privacy policies. ``citations`` removes ``[1]``, ``[edit]`` and ``[citation needed]``.
    A document with a true signal among ``spare`` is not edited at all: a short line of prose is
    debris, a short line of code is a closing bracket.
    """

    min_words: int = 3
    terminal_punctuation: bool = False
    max_word_length: int = 1000
    javascript: bool = True
    policies: bool = True
    citations: bool = True
    spare: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.min_words < 0:
            raise ValueError(f"min_words is {self.min_words}; it must be at least 0")
        if self.max_word_length < 1:
            raise ValueError(f"max_word_length is {self.max_word_length}; it must be at least 1")


PAPER = C4Options(terminal_punctuation=True)
ORIGINAL = C4Options(min_words=5, terminal_punctuation=True)


def edit(text: str, options: C4Options | None = None) -> tuple[str, list[Edit]]:
    """The text without the lines and citations that go, and an edit for each.

    A removed line goes with its newline. Blank lines stay, for they part paragraphs; but where a
    removed line stood between blank lines, those after it go with it, lest they pile up.
    """
    options = options or C4Options()
    kept: list[str] = []
    edits: list[Edit] = []
    start = 0
    after_gap, after_removed = True, False
    for line in text.splitlines(keepends=True):
        end = start + len(line)
        if not line.strip():
            if after_gap and after_removed:
                edits[-1] = replace(edits[-1], end=end)
            else:
                kept.append(line)
                after_gap, after_removed = True, False
        elif found := _reason(line, options):
            edits.append(Edit(STAGE, f"c4.line.{found[0]}", start, end, "", found[1]))
            after_removed = True
        else:
            kept.append(_without_citations(line, start, edits) if options.citations else line)
            after_gap = after_removed = False
        start = end
    return "".join(kept), edits


def _without_citations(line: str, start: int, edits: list[Edit]) -> str:
    if "[" not in line:
        return line
    for found in _CITATION.finditer(line):
        place = start + found.start()
        edits.append(Edit(STAGE, "c4.citation", place, start + found.end(), "", found[0]))
    return _CITATION.sub("", line)


def _reason(line: str, options: C4Options) -> tuple[str, str] | None:
    """Why a line goes and what was found, in the order of datatrove's filter; or None.

    What was found is a number, a mark or a phrase of the rule, never the line: it may name people.
    """
    bare = line.strip()
    words = bare.split()
    if len(bare) > options.max_word_length:
        longest = max(map(len, words))
        if longest > options.max_word_length:
            return "long_word", f"{longest} characters"
    if options.terminal_punctuation:
        ending = _CITATION.sub("", bare).rstrip() if options.citations else bare
        if not ending.endswith(LINE_ENDS) or ending.endswith("..."):
            return "no_terminal_punctuation", ""
    if len(words) < options.min_words and not _unspaced(bare, options.min_words):
        return "short", f"{len(words)} words"
    lowered = bare.lower()
    if options.javascript and "javascript" in lowered:
        return "javascript", "javascript"
    if options.policies:
        policy = next((policy for policy in POLICIES if policy in lowered), None)
        if policy:
            return "policy", policy
    return None


def _unspaced(line: str, words: int) -> bool:
    """Whether a line, mostly in a script without spaces, has so many words (see ``TextView``)."""
    if line.isascii():
        return False
    view = TextView(line)
    return view.unspaced_share > 0.5 and view.plain_word_count >= words


def measure(view: TextView) -> dict[str, Value]:
    """The signals of a page after ``edit``; 0 for an empty text."""
    return {
        "c4.lorem_ipsum": view.text.lower().count("lorem ipsum"),
        "c4.curly_bracket": view.text.count("{"),
        "c4.sentences": view.sentences,
    }
