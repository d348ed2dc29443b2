"""What to look for, and the categories a finding can have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from filters.pii.recognizers import NATIONAL_IDS

Category = Literal["secret", "iban", "card", "crypto", "email", "mac", "ip", "national_id", "phone"]

CATEGORIES: tuple[Category, ...] = (
    "secret",
    "iban",
    "card",
    "crypto",
    "email",
    "mac",
    "ip",
    "national_id",
    "phone",
)
"""Every category, the more specific shapes first: the order settles a tie between overlaps."""


@dataclass(frozen=True, slots=True)
class PiiOptions:
    """What ``scrub`` removes.

    ``categories`` are the kinds of finding to replace. ``ip_ranges`` is ``public`` (addresses
    that are reachable on the Internet; private, loopback, link-local and documentation ranges
    stay, for they identify nobody) or ``all``. ``phone_regions`` are the ISO 3166 regions whose
    national formats count as telephone numbers; empty means: those of the document's language.
    Numbers written with ``+`` are found whatever the region. ``national_ids`` are the Presidio
    entity names to look for; empty means every one in ``recognizers.NATIONAL_IDS``.
    """

    categories: tuple[Category, ...] = CATEGORIES
    ip_ranges: Literal["public", "all"] = "public"
    phone_regions: tuple[str, ...] = ()
    national_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = [name for name in self.categories if name not in CATEGORIES]
        if unknown:
            raise ValueError(
                f"pii.categories holds {unknown[0]!r}; choose from {', '.join(CATEGORIES)}"
            )
        if self.ip_ranges not in ("public", "all"):
            raise ValueError(f"pii.ip_ranges is {self.ip_ranges!r}; choose 'public' or 'all'")
        known = [rule.entity for rule in NATIONAL_IDS]
        for entity in self.national_ids:
            if entity not in known:
                raise ValueError(
                    f"pii.national_ids holds {entity!r}; choose from {', '.join(known)}"
                )
        for region in self.phone_regions:
            if not (len(region) == 2 and region.isascii() and region.isupper()):
                raise ValueError(
                    f"pii.phone_regions holds {region!r}; write ISO 3166 codes such as 'US'"
                )


@dataclass(frozen=True, slots=True)
class Finding:
    """A span that holds an identifier: ``score`` is Presidio's confidence, from 0 to 1."""

    category: Category
    start: int
    end: int
    score: float
