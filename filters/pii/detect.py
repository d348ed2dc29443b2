"""Every finding in a text, and which of two that overlap is kept."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from filters.pii import phones, recognizers
from filters.pii import secrets as secret_values
from filters.pii.candidates import Candidates, find_candidates
from filters.pii.options import CATEGORIES, Category, Finding, PiiOptions
from filters.pii.recognizers import Match


def detect(
    text: str, language: str, options: PiiOptions, candidates: Candidates | None = None
) -> list[Finding]:
    """The findings in ``text``, sorted and disjoint.

    ``candidates`` are the windows to read, by default those of ``find_candidates``; with
    ``whole_text`` the answer is the same and costs what Presidio costs.
    """
    where = find_candidates(text) if candidates is None else candidates
    wanted = set(options.categories)
    found = [
        Finding(category, start, end, score)
        for category, matches in _readers(text, where, language, options)
        if category in wanted
        for start, end, score in matches
    ]
    return resolve(found)


def resolve(findings: Iterable[Finding]) -> list[Finding]:
    """Disjoint findings in order: of two that overlap stays the surer, then the longer, then
    the earlier, then the one whose category stands first in ``CATEGORIES``."""
    ranked = sorted(
        findings,
        key=lambda f: (-f.score, f.start - f.end, f.start, CATEGORIES.index(f.category)),
    )
    kept: list[Finding] = []
    for finding in ranked:
        at = bisect_left(kept, finding.start, key=lambda f: f.start)
        free_before = at == 0 or kept[at - 1].end <= finding.start
        if free_before and (at == len(kept) or finding.end <= kept[at].start):
            kept.insert(at, finding)
    return kept


def _readers(
    text: str, where: Candidates, language: str, options: PiiOptions
) -> Iterator[tuple[Category, Iterable[Match]]]:
    regions = options.phone_regions or phones.regions_of(language)
    yield "secret", secret_values.secrets(text)
    yield "iban", recognizers.ibans(text, where.code)
    yield "card", recognizers.cards(text, where.number)
    yield "crypto", recognizers.wallets(text, where.crypto)
    yield "email", recognizers.emails(text, where.email)
    yield "mac", recognizers.macs(text, where.colon)
    yield "ip", recognizers.addresses(text, (*where.ipv4, *where.colon), options.ip_ranges == "all")
    yield (
        "national_id",
        recognizers.national_ids(text, where.number, where.code, options.national_ids),
    )
    yield "phone", phones.phones(text, where.number, regions)
