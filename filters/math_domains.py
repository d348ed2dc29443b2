"""Domains that people have judged: all of a domain's pages are mathematics, or none is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal, cast

Verdict = Literal["accept", "reject", "unknown"]

_VERDICTS = ("accept", "reject")


def parse_domains(text: str, name: str) -> dict[str, Verdict]:
    """Read lines of ``accept DOMAIN`` or ``reject DOMAIN``; ``#`` starts a comment.

    Raises ``ValueError``, with ``name`` and the line number, for a line of another form and for
    a domain that is both accepted and rejected.
    """
    verdicts: dict[str, Verdict] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or words[0] not in _VERDICTS:
            raise ValueError(
                f"{name}, line {number}: {line.strip()!r} is not a verdict and a domain; "
                "write 'accept example.org' or 'reject example.org'"
            )
        verdict = cast(Verdict, words[0])
        domain = words[1].lower().strip(".")
        if verdicts.setdefault(domain, verdict) != verdict:
            raise ValueError(
                f"{name}, line {number}: {domain} is both accepted and rejected; keep one line"
            )
    return verdicts


@cache
def default_domains() -> Mapping[str, Verdict]:
    """The package's own list, made from general knowledge of well-known sites."""
    name = "math_domains.txt"
    return parse_domains(
        resources.files("filters").joinpath(f"data/{name}").read_text("utf-8"), name
    )


def read_domains(path: Path) -> dict[str, Verdict]:
    """The package's list with a file's lines laid over it (the file wins).

    Raises ``OSError`` where the file cannot be read and ``ValueError`` for a malformed line.
    """
    return {**default_domains(), **parse_domains(path.read_text("utf-8"), str(path))}


def judge(domain: str, verdicts: Mapping[str, Verdict]) -> Verdict:
    """The verdict on a host name: that of the longest listed domain it is or lies under.

    As in Apple's foundation models (2024 report, section 3.1), whose domain filter takes all
    pages of domains labelled by people.
    """
    name = domain.lower().strip(".")
    while name:
        if name in verdicts:
            return verdicts[name]
        name = name.partition(".")[2]
    return "unknown"
