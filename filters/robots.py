"""What a page asks of robots: the robots ``meta`` element and the ``X-Robots-Tag`` header.

Directives and their syntax are those of Google Search Central ("Robots meta tag,
data-nosnippet, and X-Robots-Tag specifications"); ``noai`` and ``noimageai`` are the directives
that DeviantArt introduced in 2022. A directive counts when it is addressed to ``robots`` or to one
of the agents named by the caller; of several, the most restrictive wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

DIRECTIVES = ("noindex", "nofollow", "noarchive", "noai", "noimageai")

_IMPLIED = {"none": ("noindex", "nofollow"), "nocache": ("noarchive",)}
_WITH_VALUE = frozenset(
    {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"}
)
_INTERESTING = re.compile(r"<(?i:meta[\s/]|!--|script[\s/>]|style[\s/>])")
_CLOSING = {"!": "-->", "s": "</s"}
_ATTRIBUTE = re.compile(
    r"""[\s/]*+([^\s"'<>/=]++)(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s"'<>]++)))?"""
)
_AGENT = re.compile(r"[a-z*][a-z0-9._*-]*")
_MAX_TAG_CHARS = 4096


def directives(html: str, headers: Iterable[str], agents: Iterable[str] = ()) -> dict[str, bool]:
    """Each of ``DIRECTIVES`` and whether the page states it.

    ``headers`` are the values of ``X-Robots-Tag``; ``agents`` are user agent tokens to honour
    besides ``robots``. Never raises.
    """
    names = {"robots", *(agent.strip().lower() for agent in agents if agent.strip())}
    stated: set[str] = set()
    for value in headers:
        stated.update(_in_header(value, names))
    for name, content in _meta_elements(html):
        if name in names:
            stated.update(_in_list(content))
    return {directive: directive in stated for directive in DIRECTIVES}


def _in_header(value: str, names: set[str]) -> Iterator[str]:
    """``[agent:] directive, ...``; an agent holds until the next one is named."""
    addressed = True
    for part in value.split(","):
        before, colon, after = part.partition(":")
        name = before.strip().lower()
        # The time in the date of "unavailable_after" has a colon too, but no agent before it.
        names_agent = colon and name not in _WITH_VALUE and _AGENT.fullmatch(name)
        if names_agent:
            addressed = name in names
        if addressed:
            yield from _in_list(after if names_agent else part)


def _in_list(content: str) -> Iterator[str]:
    for word in re.split(r"[\s,;]+", content.lower()):
        yield from _IMPLIED.get(word, (word,))


def _meta_elements(html: str) -> Iterator[tuple[str, str]]:
    """(name, content) of every ``meta`` outside comments, scripts and styles, in lower case."""
    position = 0
    while (start := _INTERESTING.search(html, position)) is not None:
        kind = html[start.start() + 1].lower()
        position = start.end()
        if kind != "m":
            position = html.find(_CLOSING[kind], start.start() + 2)
            if position < 0:
                return
            continue
        limit = position + _MAX_TAG_CHARS
        found: dict[str, str] = {}
        while (attribute := _ATTRIBUTE.match(html, position, limit)) is not None:
            position = attribute.end()
            value = next((group for group in attribute.groups()[1:] if group is not None), "")
            found.setdefault(attribute[1].lower(), value)
        if "name" in found and "content" in found:
            yield found["name"].strip().lower(), found["content"]
