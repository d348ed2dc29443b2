"""Telephone numbers: libphonenumber through Presidio, and the look of a number people dial.

libphonenumber accepts a great many runs of digits; a page has years, prices and part numbers.
A match counts if it is written internationally (``+``), if a word such as ``tel`` stands before
it, or if it is grouped the way national numbers are and valid in a region of the language.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import Any

from filters.pii.candidates import NUMBER
from filters.pii.context import REACH, in_url, precedes, stands_alone, words
from filters.pii.recognizers import Match

POSSIBLE, VALID = 0, 1
"""libphonenumber's leniencies: of a possible length, and within an assigned range of its plan."""

REGIONS: dict[str, tuple[str, ...]] = {
    "ar": ("EG", "SA", "AE"),
    "bn": ("BD", "IN"),
    "cs": ("CZ",),
    "da": ("DK",),
    "de": ("DE", "AT", "CH"),
    "el": ("GR",),
    "en": ("US", "GB", "AU", "IN"),
    "es": ("ES", "MX", "AR", "CO"),
    "et": ("EE",),
    "fa": ("IR",),
    "fi": ("FI",),
    "fr": ("FR", "BE", "CH"),
    "he": ("IL",),
    "hi": ("IN",),
    "hr": ("HR",),
    "hu": ("HU",),
    "id": ("ID",),
    "it": ("IT", "CH"),
    "ja": ("JP",),
    "ko": ("KR",),
    "lt": ("LT",),
    "lv": ("LV",),
    "nl": ("NL", "BE"),
    "no": ("NO",),
    "pl": ("PL",),
    "pt": ("BR", "PT"),
    "ro": ("RO",),
    "ru": ("RU", "UA"),
    "sk": ("SK",),
    "sl": ("SI",),
    "sr": ("RS",),
    "sv": ("SE",),
    "th": ("TH",),
    "tr": ("TR",),
    "uk": ("UA",),
    "ur": ("PK",),
    "vi": ("VN",),
    "zh": ("CN", "TW", "HK"),
}
"""Where a language is spoken most: the regions whose national formats are tried."""

DEFAULT_REGIONS = ("US",)

_WORDS = words(
    "phone,phones,telephone,tel,tel.,telefon,téléphone,teléfono,telefono,telefone,telefoon,"
    "telefonnummer,puhelin,puh,telefón,τηλ,τηλέφωνο,тел,телефон,هاتف,تلفن,טלפון,फोन,"
    "call,calling,call me,cell,cellphone,mobile,mobil,móvil,mob,handy,celular,cellulare,"
    "gsm,fax,telefax,hotline,helpline,whatsapp,viber,sms,dial,toll-free,toll free,freephone,"
    "contact,desk,ph,tlf,tfno,電話,电话,手机,手機,联系电话,传真,傳真,電話番号,携帯,전화,휴대폰,โทร"
)
# A label that says that the digits after it are a telephone number, whatever its plan.
_LABELLED = re.compile(
    r"(?:(?<!\w)(?:(?:tele)?(?:phone|fax)|tel|mobile|cell|mob|telefon|teléfono|telefono|telefone|"
    r"téléphone|whatsapp|тел|телефон|電話|电话|传真|전화)(?:\s*(?:no|nr|number|#))?\.?"
    r"\s{0,2}[:.：]\s{0,3}"
    r"|(?<!\w)(?:call|dial|text|ring|reach|phone)(?:\s(?:me|us|him|her|them|now|today|back))?"
    rf"(?:\s(?:on|at))?:?\s)(?P<number>\({NUMBER}|{NUMBER})",
    re.IGNORECASE,
)
_LABEL_REACH = 32
# Words that say that the digits after them are another kind of number.
_OTHER = re.compile(
    r"(?<!\w)(?:isbn|issn|doi|pmid|oclc|ean|gtin|upc|asin|sku|vat|tva|mwst|btw|kvk|siren|siret|"
    r"p\.?iva|abn|acn|ein|iban|invoice|order|account|acct|item|part|model|serial|ref|case|patent|"
    r"id)[\s.:#]*(?:no|nr|number|num|n°|№)?[\s.:#]*$",
    re.IGNORECASE,
)
_OTHER_REACH = 24
_GROUPED = re.compile(
    r"\(\d{3}\) ?\d{3}[-. ]\d{4}"  # (415) 555-0132
    r"|(?:1[-. ])?\d{3}([-.])\d{3}\1\d{4}"  # 415-555-0132, 1-800-555-0199
    r"|0\d{1,4}([ ./-])\d{2,4}(?:\2?\d{2,4}){0,4}"  # 01 99 00 12 34, 0151-5550132
    r"|\(0\d{1,4}\)[ -]?\d{2,4}(?:[ -]?\d{2,4}){0,3}"  # (020) 7946 0018
)
_GROUPED_WORD = re.compile(rf"(?<!\w)(?<![A-Za-z0-9][-.,:])(?:{_GROUPED.pattern})")
_EXTENSION = re.compile(r"\s*(?:x|ext\.?|extension|#)\s*\d{1,7}$", re.IGNORECASE)
_EXTENSION_REACH = 24
_DATE = re.compile(
    r"(?:1[89]|20)\d\d\s?[-./–]\s?\d{1,4}(?:[-./]\d{1,2})?|\d{1,2}[-./]\d{1,2}[-./](?:1[89]|20)?\d\d"
)
_PLUS = "+＋"
_ABROAD = re.compile(r"[+＋]|(?<!\d)00\d")
# Presidio's score for a telephone number, of which none is surer than another.
_LABELLED_SCORE = 0.4


def phones(
    text: str, windows: Iterable[tuple[int, int]], regions: tuple[str, ...]
) -> Iterator[Match]:
    """The telephone numbers in the windows, numbered plans of ``regions`` where there is no +."""
    for start, end in windows:
        if not _may_be_phone(text, start, end):
            continue
        for found in _read(text, start, end, regions):
            if _counts(text, found[0], found[1]):
                yield found
        yield from _labelled(text, start, end)


def regions_of(language: str) -> tuple[str, ...]:
    """The regions tried for a language (ISO 639; a script or region after it is ignored)."""
    return REGIONS.get(re.split(r"[-_]", language)[0].lower(), DEFAULT_REGIONS)


@functools.cache
def _recognizer(regions: tuple[str, ...], leniency: int) -> Any:
    from presidio_analyzer.predefined_recognizers import PhoneRecognizer

    return PhoneRecognizer(supported_regions=regions, leniency=leniency)


def _read(text: str, start: int, end: int, regions: tuple[str, ...]) -> Iterator[Match]:
    base = max(0, start - 3)
    part = text[base : end + _EXTENSION_REACH]
    # A number with + means the same in every region, and needs no range to be believed.
    if any(plus in part for plus in _PLUS):
        for low, high, score in _numbers(part, regions[:1], POSSIBLE):
            if part[low] in _PLUS:
                yield base + low, base + high, score
                if base + low <= start and end <= base + high:
                    return
    for low, high, score in _numbers(part, regions, VALID):
        if part[low] not in _PLUS:
            yield base + low, base + high, score


def _numbers(part: str, regions: tuple[str, ...], leniency: int) -> list[Match]:
    results = _recognizer(regions, leniency).analyze(part, ["PHONE_NUMBER"], None)
    # Each region finds its own: most numbers are found more than once.
    return sorted({(result.start, result.end, result.score) for result in results})


def _may_be_phone(text: str, start: int, end: int) -> bool:
    """Whether a number in the window could count: what ``_counts`` asks, without libphonenumber."""
    if _DATE.fullmatch(text, start, end):
        return False
    if _ABROAD.search(text, max(0, start - 3), end):
        return True
    if _WORDS.occur(text, max(0, start - REACH), end):
        return True
    return _GROUPED_WORD.search(text, max(0, start - 1), end) is not None


def _counts(text: str, start: int, end: int) -> bool:
    number = _EXTENSION.sub("", text[start:end])
    digits = sum(map(str.isdigit, number))
    if not 7 <= digits <= 15 or _DATE.fullmatch(number.lstrip(_PLUS)) or "\n" in number:
        return False
    if not stands_alone(text, start, end) or in_url(text, start):
        return text[max(0, start - 4) : start].lower() == "tel:"
    if number[0] in _PLUS or number.startswith("00"):
        return digits >= 8
    if _OTHER.search(text, max(0, start - _OTHER_REACH), start):
        return False
    return precedes(_WORDS, text, start) or _GROUPED.fullmatch(number) is not None


def _labelled(text: str, start: int, end: int) -> Iterator[Match]:
    """A run of digits straight after ``Tel:``, which need not be valid anywhere."""
    for match in _LABELLED.finditer(text, max(0, start - _LABEL_REACH), end):
        low, high = match.span("number")
        number = text[low:high]
        if 7 <= sum(map(str.isdigit, number)) <= 15 and not _DATE.fullmatch(number):
            yield low + (number[0] == "(" and ")" not in number), high, _LABELLED_SCORE
