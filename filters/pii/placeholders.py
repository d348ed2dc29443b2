"""Typed placeholders: ``<EMAIL_1>`` is the first address of a document, wherever it recurs.

A value has one number within a document, counted by first appearance, so a reader still sees who
answers whom; nothing outside the document enters. A placeholder that the source text holds
already stays as it is, its number is not given again, and nothing is looked for across it.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata

from filters.pii.options import Category

LABELS: dict[Category, str] = {
    "secret": "SECRET",
    "iban": "IBAN",
    "card": "CARD",
    "crypto": "CRYPTO",
    "email": "EMAIL",
    "mac": "MAC",
    "ip": "IP",
    "national_id": "ID",
    "phone": "PHONE",
}

PLACEHOLDER = re.compile(rf"<({'|'.join(LABELS.values())})_([0-9]{{1,9}})>")


class Numbering:
    """Gives each value of a document its placeholder, in the order of asking."""

    def __init__(self, text: str) -> None:
        self._taken = {(match[1], int(match[2])) for match in PLACEHOLDER.finditer(text)}
        self._given: dict[tuple[Category, str], str] = {}
        self._last: dict[str, int] = {}

    def placeholder(self, category: Category, value: str) -> str:
        """The placeholder of ``value``: a new one, or the one that it got before."""
        key = category, normalise(category, value)
        if key not in self._given:
            label = LABELS[category]
            number = self._last.get(label, 0) + 1
            while (label, number) in self._taken:
                number += 1
            self._last[label] = number
            self._given[key] = f"<{label}_{number}>"
        return self._given[key]


def normalise(category: Category, value: str) -> str:
    """What two spellings of one value have in common.

    E-mail ignores case; telephone and card numbers are their digits (an extension's digits
    included); IBANs and identifiers their letters and digits; IP addresses their shortest form;
    secrets and wallets are taken as they are.
    """
    if category == "email":
        return value.lower()
    if category in ("phone", "card"):
        return "".join(str(unicodedata.digit(c)) for c in value if c.isdecimal())
    if category in ("iban", "national_id", "mac"):
        return "".join(filter(str.isalnum, value)).upper()
    if category == "ip":
        return ipaddress.ip_interface(value).compressed
    return value
