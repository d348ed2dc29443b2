"""Trafilatura's pruning expressions, remembered instead of evaluated again and again.

A third of trafilatura's time on a page goes to XPath expressions that ask each element of a page
whether its own tag and attributes look like a menu, a footer or an advertisement, by regular
expressions that call back into Python. The answer depends on these few strings alone, and sites
repeat them on every page. Here each distinct combination is put to the expression once, on an
element of its own, and the answer is remembered. Results are the same; expressions that look at
anything but the element itself are left as they are.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from lxml import etree

MAX_REMEMBERED = 100_000
"""Combinations remembered for one expression before it starts afresh: some tens of megabytes."""

_SELF_ONLY = re.compile(r"^\s*\.//\*\s*\[")
_ELSEWHERE = re.compile(
    r"/|\||::(?<!self::)|\btext\(|\bposition\(|\blast\(|\bcount\(|\[\s*\d+\s*\]|\bstring\(\s*\)"
)
_ATTRIBUTE = re.compile(r"@([\w-]+)")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_UNION = re.compile(r"@[\w-]+\|@[\w-]+")


def looks_at_itself_only(path: str) -> bool:
    """Whether an expression of the form ``.//*[...]`` asks only for an element's own properties.

    Text in quotes and unions of attributes are set aside; any other step, axis, union, position
    or text function means that it may look elsewhere.
    """
    bare = _UNION.sub("@", _QUOTED.sub("''", path))
    match = _SELF_ONLY.match(bare)
    return match is not None and _ELSEWHERE.search(bare, match.end()) is None


class RememberedTest:
    """An expression that looks at an element only; called as the expression is."""

    def __init__(self, expression: Any) -> None:
        self._expression = expression
        self._names = frozenset(_ATTRIBUTE.findall(_QUOTED.sub("''", expression.path)))
        self._known: dict[tuple[Any, ...], bool] = {}

    def __call__(self, tree: Any) -> list[Any]:
        """The elements below ``tree`` that match, in document order."""
        known, names = self._known, self._names
        if len(known) > MAX_REMEMBERED:
            known.clear()
        found = []
        for element in tree.iterdescendants(etree.Element):
            # In the order of the source: of a union such as @id|@class the first one counts.
            key = (element.tag, *[item for item in element.items() if item[0] in names])
            hit = known.get(key)
            if hit is None:
                hit = known[key] = self._ask(key)
            if hit:
                found.append(element)
        return found

    def _ask(self, key: tuple[Any, ...]) -> bool:
        """Put one combination of tag and attributes to the expression."""
        parent = etree.Element("x")
        child = etree.SubElement(parent, "x")
        child.tag = key[0]
        for name, value in key[1:]:
            child.set(name, value)
        return bool(self._expression(parent))


@functools.cache
def install() -> int:
    """Let trafilatura use remembered tests in this process; returns how many were exchanged.

    The lists of its module ``xpaths`` are changed in place, which its other modules share.
    """
    from trafilatura import xpaths

    count = 0
    # The lists in which asking costs more than walking over the elements in Python does.
    for expressions in (xpaths.OVERALL_DISCARD_XPATH, xpaths.PRECISION_DISCARD_XPATH):
        faster = remembered(expressions)
        count += sum(old is not new for old, new in zip(expressions, faster, strict=True))
        expressions[:] = faster
    return count


def remembered(expressions: Sequence[Any]) -> list[Any]:
    """The expressions, those exchanged for remembered tests that can be."""
    return [
        RememberedTest(expression)
        if isinstance(expression, etree.XPath) and looks_at_itself_only(expression.path)
        else expression
        for expression in expressions
    ]
