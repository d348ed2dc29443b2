"""Replace personal identifiers and secrets in a text, and count them."""

from __future__ import annotations

from collections.abc import Mapping

from filters.document import Edit, Value
from filters.pii.detect import detect
from filters.pii.options import CATEGORIES, Category, Finding, PiiOptions
from filters.pii.placeholders import PLACEHOLDER, Numbering
from filters.signal import Bound, Signal

STAGE = "pii"

_MEANINGS: dict[Category, str] = {
    "secret": "passwords, private keys, access tokens and API keys",
    "iban": "international bank account numbers with valid check digits",
    "card": "payment card numbers that pass the Luhn check",
    "crypto": "Bitcoin addresses with a valid checksum",
    "email": "e-mail addresses under a public suffix",
    "mac": "hardware (MAC) addresses",
    "ip": "IP addresses, by default public ones only",
    "national_id": "identifiers of persons issued by states (social security, tax, identity card)",
    "phone": "telephone and fax numbers",
}

SIGNALS: tuple[Signal, ...] = (
    *(
        Signal(
            f"pii.{category}",
            "int",
            "findings",
            f"Number of {_MEANINGS[category]} replaced in the text.",
            "Presidio analyzer 2.2 recognizers with context rules (filters.pii.recognizers)"
            if category != "secret"
            else "token shapes documented by their issuers; assignment and entropy rule",
        )
        for category in CATEGORIES
    ),
    Signal(
        "pii.total",
        "int",
        "findings",
        "Number of findings of every category replaced in the text.",
        "filters.pii.scrub",
    ),
    Signal(
        "pii.density",
        "float",
        "findings per 1000 characters",
        "Findings per 1000 characters of the text before the edit; a page that is mostly a list "
        "of contacts has many.",
        "filters.pii.scrub",
        Bound(max=6.0),
    ),
)


def scrub(
    text: str, language: str, options: PiiOptions
) -> tuple[str, list[Edit], dict[str, Value]]:
    """The text with placeholders for identifiers, the edits, and the signals.

    ``language`` is an ISO 639 code (empty if unknown) and chooses the telephone regions. The
    edits refer to ``text``, are sorted and do not overlap; none holds the value it replaced.
    Scrubbing the result again changes nothing. No text makes this raise.
    """
    findings = _find_all(text, language, options)
    numbering = Numbering(text)
    edits: list[Edit] = []
    pieces: list[str] = []
    end = 0
    for finding in findings:
        replacement = numbering.placeholder(finding.category, text[finding.start : finding.end])
        pieces += text[end : finding.start], replacement
        end = finding.end
        edits.append(Edit(STAGE, f"pii.{finding.category}", finding.start, end, replacement))
    return "".join([*pieces, text[end:]]), edits, _count(findings, len(text))


def measure(text: str, language: str, options: PiiOptions) -> Mapping[str, Value]:
    """The signals alone: what ``scrub`` would replace, with the text left as it is."""
    return _count(_find_all(text, language, options), len(text))


def _find_all(text: str, language: str, options: PiiOptions) -> list[Finding]:
    """Findings between the placeholders, until the pieces that are left hold none.

    A placeholder ends the word before it and hides the context before that, so taking a finding
    out can uncover another. Each round reads only pieces of texts that changed.
    """
    findings: list[Finding] = []
    pieces = _between(0, len(text), [match.span() for match in PLACEHOLDER.finditer(text)])
    while pieces:
        left: list[tuple[int, int]] = []
        for start, end in pieces:
            found = [
                Finding(f.category, start + f.start, start + f.end, f.score)
                for f in detect(text[start:end], language, options)
            ]
            if found:
                findings += found
                left += _between(start, end, [(f.start, f.end) for f in found])
        pieces = left
    return sorted(findings, key=lambda f: f.start)


def _between(start: int, end: int, holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The non-empty pieces of ``start`` to ``end`` around the holes, in order."""
    edges = [start, *(edge for hole in holes for edge in hole), end]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [(low, high) for low, high in pairs if low < high]


def _count(findings: list[Finding], characters: int) -> dict[str, Value]:
    counts: dict[str, Value] = {
        f"pii.{category}": sum(finding.category == category for finding in findings)
        for category in CATEGORIES
    }
    density = 1000 * len(findings) / characters if characters else 0.0
    return {**counts, "pii.total": len(findings), "pii.density": density}
