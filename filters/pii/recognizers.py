"""Presidio's pattern recognizers, and what must hold for a match of each to count.

Presidio gives every match of a pattern a score and leaves the threshold to the caller. On web
pages, where numbers are mostly not identifiers, the score alone removes too much: a check digit
passes one random number in ten. Each rule here adds what the shape lacks: a word that names the
identifier, capitals, or a look at what the number is part of.
"""

from __future__ import annotations

import functools
import ipaddress
import operator
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from filters.pii.candidates import LOCAL_PART
from filters.pii.context import REACH, Words, in_url, precedes, stands_alone, words

Match = tuple[int, int, float]
Accept = Callable[[str, int, int], bool]


@dataclass(frozen=True, slots=True)
class NationalId:
    """A national identifier: Presidio's recognizer and whether its shape is proof enough.

    ``context`` are words besides Presidio's own. ``alone`` are the shapes that count without
    any such word; every other match needs one. ``scan`` names the candidates it lies in.
    """

    entity: str
    recognizer: str
    scan: Literal["number", "code"]
    context: tuple[str, ...] = ()
    alone: str = ""


NATIONAL_IDS: tuple[NationalId, ...] = (
    NationalId(
        "US_SSN",
        "UsSsnRecognizer",
        "number",
        ("social security number", "social security no", "ssn", "ssns", "ss#", "social security"),
        r"\d{3}-\d{2}-\d{4}",
    ),
    NationalId("US_ITIN", "UsItinRecognizer", "number", ("itin", "taxpayer", "tax id", "tin")),
    NationalId("US_MBI", "UsMbiRecognizer", "code"),
    NationalId("CA_SIN", "CaSinRecognizer", "number", ("social insurance", "sin number", "s.i.n.")),
    NationalId("UK_NHS", "NhsRecognizer", "number", ("nhs number", "nhs no")),
    NationalId(
        "UK_NINO",
        "UkNinoRecognizer",
        "code",
        ("national insurance number", "ni no", "nino"),
    ),
    NationalId("ES_NIF", "EsNifRecognizer", "code", ("dni", "nif", "n.i.f.", "d.n.i.")),
    NationalId("ES_NIE", "EsNieRecognizer", "code", ("nie", "n.i.e."), r"[XYZ]-?\d{7}-?[A-Z]"),
    NationalId("IT_FISCAL_CODE", "ItFiscalCodeRecognizer", "code", (), r"[A-Z0-9]{16}"),
    NationalId("PL_PESEL", "PlPeselRecognizer", "number"),
    NationalId(
        "FI_PERSONAL_IDENTITY_CODE",
        "FiPersonalIdentityCodeRecognizer",
        "code",
        (),
        r"\d{6}[-+A]\d{3}[0-9A-Y]",
    ),
    NationalId(
        "SE_PERSONNUMMER",
        "SePersonnummerRecognizer",
        "number",
        ("personnr", "pnr", "samordningsnr"),
    ),
    NationalId("DE_TAX_ID", "DeTaxIdRecognizer", "number", ("steuer-id", "idnr.", "tax id")),
    NationalId("DE_SOCIAL_SECURITY", "DeSocialSecurityRecognizer", "code", ("sv-nr", "rv-nummer")),
    NationalId("TR_NATIONAL_ID", "TrNationalIdRecognizer", "number", ("t.c.", "tc", "kimlik")),
    NationalId("SG_NRIC_FIN", "SgFinRecognizer", "code", ("nric", "fin", "identity card")),
    NationalId("AU_TFN", "AuTfnRecognizer", "number"),
    NationalId("AU_MEDICARE", "AuMedicareRecognizer", "number"),
    NationalId("IN_PAN", "InPanRecognizer", "code", ("pan", "pan card", "pan no", "income tax")),
    NationalId("IN_AADHAAR", "InAadhaarRecognizer", "number", ("aadhaar", "aadhar", "uid", "आधार")),
    NationalId(
        "KR_RRN",
        "KrRrnRecognizer",
        "number",
        ("주민등록번호", "주민번호"),
        r"\d{6}-[1-4]\d{6}",
    ),
    NationalId("TH_TNIN", "ThTninRecognizer", "number"),
    NationalId("ZA_ID_NUMBER", "ZaIdNumberRecognizer", "number", ("sa id", "rsa id")),
)
"""Identifiers of persons that Presidio knows and that can be told from other numbers."""

# Context words of Presidio that are too common to name an identifier.
_TOO_COMMON = frozenset({"id", "canada", "individual", "security", "social", "tax", "payer", "sin"})

_CARD_WORDS = words(
    "credit card,creditcard,debit card,card,visa,mastercard,amex,american express,discover,jcb,"
    "diners,maestro,tarjeta,carte,karte,kreditkarte,carta,cartão,kart,карта,卡号,信用卡,カード,카드,cc,cvv,cvc"
)
_CARD_GROUPS = re.compile(r"\d{4}([ -])(?:\d{4}\1\d{4}\1\d{4}|\d{6}\1\d{4,5})")
# No identifier that is all digits has fewer than nine.
_NINE_DIGITS = re.compile(r"[0-9](?:[^0-9]{0,2}[0-9]){8}")
_TWELVE_DIGITS = re.compile(r"[0-9](?:[ -]?[0-9]){11}")
_CARD_ISSUER = re.compile(r"4|5[0-8]|2[2-7]|3[0-9]|6")
# Presidio's own pattern leaves out Mastercard's 2-series and numbers of 12, 17, 18 or 19 digits.
_CARD_PATTERN = r"\b[1-6]\d{3}(?:[- ]?\d{4}[- ]?\d{4}[- ]?\d{4}|[- ]?\d{6}[- ]?\d{4,5}|\d{8,15})\b"
_VERSION_WORDS = words(
    "version,versions,ver,v,release,build,rev,revision,firmware,driver,patch,section,sec,§,"
    "chapter,clause,article,figure,fig,table,appendix,rule,oid,dll,sdk,update"
)
_IP_WORDS = words("ip,ips,ipv4,ipv6,ip address")
_UNICAST_6 = ipaddress.IPv6Network("2000::/3")
_LOCAL = re.compile(r"[\w.+%'\-]+$")
_MAIL_EDGE = ".'-%"


@functools.cache
def presidio(recognizer: str) -> Any:
    """One Presidio recognizer, made at first use and shared: its ``analyze`` keeps no state."""
    from presidio_analyzer import Pattern, predefined_recognizers

    if recognizer == "CreditCardRecognizer":
        card = Pattern("card", _CARD_PATTERN, 0.3)
        return predefined_recognizers.CreditCardRecognizer(patterns=[card])
    if recognizer == "EmailRecognizer":
        return _offline_email_recognizer()
    return getattr(predefined_recognizers, recognizer)()


def _offline_email_recognizer() -> Any:
    import tldextract
    from presidio_analyzer.predefined_recognizers import EmailRecognizer

    # Presidio asks the module-wide extractor, which downloads the public suffix list at first
    # use. This one has no addresses to ask: it reads the list that comes with tldextract.
    extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)

    class OfflineEmailRecognizer(EmailRecognizer):  # type: ignore[misc]
        def validate_result(self, pattern_text: str) -> bool:
            domain = pattern_text.rpartition("@")[2]
            return bool(extract.extract_str(domain).fqdn)

    return OfflineEmailRecognizer()


def matches(
    recognizer: str, entity: str, text: str, windows: Iterable[tuple[int, int]]
) -> Iterator[Match]:
    """What a Presidio recognizer finds in the windows, as spans of ``text`` with its score.

    Each window is read with one character on either side, so that word boundaries hold there.
    """
    for start, end in windows:
        low = max(0, start - 1)
        part = text[low : end + 1]
        for result in presidio(recognizer).analyze(part, [entity], None):
            found = low + result.start, low + result.end
            if start <= found[0] and found[1] <= end:
                yield *found, result.score


def emails(text: str, windows: Iterable[tuple[int, int]]) -> Iterator[Match]:
    """E-mail addresses whose domain ends in a public suffix.

    Presidio's pattern takes every character that RFC 5322 allows before the ``@``, which on web
    pages swallows paths and query strings: the local part is cut back to the characters that
    mail hosts accept.
    """
    # A window may start inside a path that Presidio takes for the local part: hence the margin.
    margins = ((max(0, start - 1), end) for start, end in windows)
    for start, end, score in matches("EmailRecognizer", "EMAIL_ADDRESS", text, margins):
        at = text.rindex("@", start, end)
        local = _LOCAL.search(text, start, at)
        if local is None:
            continue
        first = local.start()
        while first < at and text[first] in _MAIL_EDGE:
            first += 1
        if 0 < at - first <= LOCAL_PART and not _is_userinfo(text, first):
            yield first, end, score


def _is_userinfo(text: str, start: int) -> bool:
    """Whether what starts here is the user or the password of a URL (``ssh://git@host``)."""
    return text.endswith("://", 0, start) or (text.endswith(":", 0, start) and in_url(text, start))


def cards(text: str, windows: Iterable[tuple[int, int]]) -> Iterator[Match]:
    """Payment cards: Presidio's Luhn check on 12 to 19 digits, and no part of a longer number.

    A number in one block passes Luhn one time in ten, so it needs a word such as ``card``. The
    groups that are embossed on cards are proof enough if an issuer's prefix leads them.
    """
    long = (window for window in windows if _TWELVE_DIGITS.search(text, *window))
    for start, end, score in matches("CreditCardRecognizer", "CREDIT_CARD", text, long):
        span = text[start:end]
        if len(set(span) - {" ", "-"}) < 2 or not stands_alone(text, start, end):
            continue
        if in_url(text, start):
            continue
        grouped = _CARD_GROUPS.fullmatch(span) and _CARD_ISSUER.match(span)
        if grouped or precedes(_CARD_WORDS, text, start):
            yield start, end, score


def addresses(text: str, windows: Iterable[tuple[int, int]], every: bool) -> Iterator[Match]:
    """IP addresses; unless ``every``, only those that belong to one host on the Internet.

    A version number has the shape of an IPv4 address: four small numbers, or a word such as
    ``version`` before them, are not taken for one. In code and prose ``2::`` is a slice and
    ``be::`` a word: an IPv6 address has three groups or more.
    """
    for start, end, score in matches("IpRecognizer", "IP_ADDRESS", text, windows):
        if not _ends_address(text, start, end):
            continue
        address = ipaddress.ip_interface(text[start:end]).ip
        if not every and not _is_public(address, text[start:end]):
            continue
        if address.version == 4 and _is_version(text, start, address.packed):
            continue
        yield start, end, score


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address, written: str) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        # 2000::/3 is all that IANA has given out for single hosts.
        groups = len(re.findall(r"[0-9A-Fa-f]+", written))
        return address.is_global and address in _UNICAST_6 and groups >= 3
    return address.is_global and not address.is_multicast


def _ends_address(text: str, start: int, end: int) -> bool:
    before = text[max(0, start - 2) : start]
    after = text[end : end + 2]
    return not re.search(r"[\w.:]$|[0-9]-$", before) and not re.match(r"\w|[.:\-]\d|::", after)


def _is_version(text: str, start: int, octets: bytes) -> bool:
    if precedes(_IP_WORDS, text, start, 24):
        return False
    before = text[max(0, start - 24) : start]
    if re.search(r"[A-Za-z]/$", before) and "://" not in before:
        return True
    return max(octets) < 32 or precedes(_VERSION_WORDS, text, start, 24)


def macs(text: str, windows: Iterable[tuple[int, int]]) -> Iterator[Match]:
    """Hardware addresses written with colons or hyphens."""
    for start, end, score in matches("MacAddressRecognizer", "MAC_ADDRESS", text, windows):
        before, after = text[max(0, start - 1) : start], text[end : end + 2]
        if not re.match(r"[\w:\-]", before) and not re.match(r"[:\-]?[0-9A-Fa-f]", after):
            yield start, end, score


def ibans(text: str, windows: Iterable[tuple[int, int]]) -> Iterator[Match]:
    """IBANs: Presidio's pattern, check digits and format of the country, in capitals."""
    for start, end, score in matches("IbanRecognizer", "IBAN_CODE", text, windows):
        if text[start:end].isupper():
            yield start, end, score


def wallets(text: str, windows: Iterable[tuple[int, int]]) -> Iterator[Match]:
    """Bitcoin addresses whose checksum holds."""
    for start, end, score in matches("CryptoRecognizer", "CRYPTO", text, windows):
        if not re.search(r"\w$", text[max(0, start - 1) : start]) and not re.match(
            r"\w", text[end : end + 1]
        ):
            yield start, end, score


def national_ids(
    text: str,
    numbers: Iterable[tuple[int, int]],
    codes: Iterable[tuple[int, int]],
    entities: tuple[str, ...],
) -> Iterator[Match]:
    """Identifiers of persons: Presidio's pattern and check digits, and a word that names them."""
    long = (window for window in numbers if _NINE_DIGITS.search(text, *window))
    windows = {"number": tuple(long), "code": tuple(codes)}
    named = {
        scan: {w for w in found if _any_name().occur(text, max(0, w[0] - REACH), w[1])}
        for scan, found in windows.items()
    }
    for rule in NATIONAL_IDS:
        if entities and rule.entity not in entities:
            continue
        # Only windows where a match could count are read.
        found = [
            window
            for window in windows[rule.scan]
            if window in named[rule.scan]
            or (rule.alone and re.compile(rule.alone).search(text, *window))
        ]
        for start, end, score in matches(rule.recognizer, rule.entity, text, found):
            span = text[start:end]
            if span.upper() != span or not stands_alone(text, start, end) or in_url(text, start):
                continue
            if (rule.alone and re.fullmatch(rule.alone, span)) or precedes(
                _names(rule), text, start
            ):
                yield start, end, score


@functools.cache
def _names(rule: NationalId) -> Words:
    own = [word for word in presidio(rule.recognizer).context if word.lower() not in _TOO_COMMON]
    return words(",".join([*rule.context, *own]))


@functools.cache
def _any_name() -> Words:
    return functools.reduce(operator.or_, map(_names, NATIONAL_IDS))
