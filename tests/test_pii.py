"""What scrubbing replaces, what it leaves, and what holds for every text."""

from __future__ import annotations

import subprocess
import sys
import threading
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.document import Edit
from filters.pii import SIGNALS, PiiOptions, measure, scrub
from filters.pii.candidates import find_candidates, whole_text
from filters.pii.detect import detect, resolve
from filters.pii.options import CATEGORIES, Finding
from filters.pii.recognizers import NATIONAL_IDS, NationalId, presidio

OPTIONS = PiiOptions()


def clean(text: str, language: str = "en", options: PiiOptions = OPTIONS) -> str:
    return scrub(text, language, options)[0]


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    scrub("bob@example.com, tel +1 415 555 0132, card 4111 1111 1111 1111", "en", OPTIONS)


REPLACED = {
    "write to jane.doe@example.com": "write to <EMAIL_1>",
    "Jane <jane+list@mail.example.org>;": "Jane <<EMAIL_1>>;",
    "http://example.com/?mail=jane@example.org&x=1": "http://example.com/?mail=<EMAIL_1>&x=1",
    "call (415) 555-0132 now": "call <PHONE_1> now",
    "Office: 415-555-0132": "Office: <PHONE_1>",
    "+44 20 7946 0958": "<PHONE_1>",
    "Tel: 467 3395": "Tel: <PHONE_1>",
    "phone 415.555.0132 ext. 503": "phone <PHONE_1>",
    "电话: 010-5555-0132": "电话: <PHONE_1>",
    "your IP is 8.8.4.4": "your IP is <IP_1>",
    "on 9.2.1.32 since": "on <IP_1> since",
    "from 93.184.216.34 at noon": "from <IP_1> at noon",
    "2606:4700:4700::1111 answers": "<IP_1> answers",
    "MAC 00:1a:2b:3c:4d:5e": "MAC <MAC_1>",
    "MAC 001a.2b3c.4d5e": "MAC <MAC_1>",
    "pay 4111 1111 1111 1111": "pay <CARD_1>",
    "my card number is 4111111111111111": "my card number is <CARD_1>",
    "IBAN GB82 WEST 1234 5698 7654 32.": "IBAN <IBAN_1>.",
    "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2": "<CRYPTO_1>",
    "SSN 536-22-1234": "SSN <ID_1>",
    "social security number 536221234": "social security number <ID_1>",
    "DNI 12345678Z": "DNI <ID_1>",
    "codice RSSMRA85T10A562S": "codice <ID_1>",
    "hetu 131052-308T": "hetu <ID_1>",
    "PESEL: 44051401359": "PESEL: <ID_1>",
    "NHS number 943 476 5919": "NHS number <ID_1>",
    "TC Kimlik No 10000000146": "TC Kimlik No <ID_1>",
    "id AKIAIOSFODNN7EXAMPLE": "id <SECRET_1>",
    "token ghp_" + "a1B2" * 9: "token <SECRET_1>",
    "key sk_live_" + "0a1b2c3d" * 3: "key <SECRET_1>",
    'password = "Xk3!ppq9Z"': 'password = "<SECRET_1>"',
    "with password Xk3!ppq9Z.": "with password <SECRET_1>.",
    "mysql --password Sn3kkaw8": "mysql --password <SECRET_1>",
    "api_key: 9f8a7b6c5d4e3f2a1b0c": "api_key: <SECRET_1>",
    "postgres://app:s3cr8tpw@db.example.com/x": "postgres://app:<SECRET_1>@db.example.com/x",
    "Authorization: Bearer a1B2c3D4e5F6g7H8i9J0k": "Authorization: Bearer <SECRET_1>",
    "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl": "<SECRET_1>",
    "-----BEGIN PRIVATE KEY-----\n" + "QUJDRA01" * 8 + "\nQUI=\n-----END PRIVATE KEY-----\nx": (
        "<SECRET_1>\nx"
    ),
}

KEPT = [
    "3 @ 5 dollars, user@localhost, @handle, a@b",
    "ssh://git@github.com/x.git",
    "2019-01-02 12:30:45 and 03/27/2011 and 1998-2004",
    "ISBN 978-3-16-148410-0, ISSN 2049-3630",
    "order no. 415-555-0132",
    "$1,234,567.00 and 12 345 678 people",
    "https://example.com/item/4155550132",
    "37.7749, -122.4194",
    "4155550132",
    "private 192.168.1.1, loopback 127.0.0.1, documentation 203.0.113.9 and 2001:db8::1",
    "version 1.2.3.4 and Opera/99.80.1.1, section 8.1.4.1, 1.2.3.4.5",
    "see 9.2.1.31 on keys",
    "x[2::] and [::4] and this would be::",
    "224.0.0.251 is multicast",
    "at 10:20:30 or 12:34:56:78",
    "item 4111111111111111",  # no word says card
    "card 4111 1111 1111 1112",  # fails Luhn
    "GB82 WEST 1234 5698 7654 33",  # fails the check digits
    "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN3",  # fails the checksum
    "536221234",  # nine digits without a word
    "000-12-3456",  # no such area
    "part 12345678Z",  # no word says DNI
    "PESEL: 44051401358",  # fails the check digit
    "company 44051401359",  # "pan" in "company" is no word
    "password: required, password = get_password(), password: ********",
    "Password:\nConfirm: the password",
    'token = request.headers.token; secret = "your-secret-key-here-123"',
    "the secret: a tokenizer.encode_plus2(text)",
    "password=/etc/passwd-2024",
    "-----BEGIN PRIVATE KEY----- is the header",
    "ghp_tooshort1234",
    "550e8400-e29b-41d4-a716-446655440000",
]


@pytest.mark.parametrize("text", REPLACED, ids=lambda t: t[:30])
def test_replaced(text: str) -> None:
    assert clean(text) == REPLACED[text]


@pytest.mark.parametrize("text", KEPT, ids=lambda t: t[:30])
def test_kept(text: str) -> None:
    assert clean(text) == text


def test_same_value_has_the_same_number_by_first_appearance() -> None:
    text = "b@example.com, A@example.com, a@EXAMPLE.com, B@example.com"
    assert clean(text) == "<EMAIL_1>, <EMAIL_2>, <EMAIL_2>, <EMAIL_1>"
    assert clean("tel (415) 555-0132 or 415.555.0132") == "tel <PHONE_1> or <PHONE_1>"


def test_numbers_that_the_source_holds_are_not_given_again() -> None:
    text = "<EMAIL_1> a@example.com <EMAIL_3> b@example.com <PHONE_2>"
    assert clean(text) == "<EMAIL_1> <EMAIL_2> <EMAIL_3> <EMAIL_4> <PHONE_2>"


def test_what_a_finding_hides_is_found_after_it() -> None:
    assert clean("jane@example.com(415) 555-0132") == "<EMAIL_1><PHONE_1>"


@pytest.mark.parametrize("rule", NATIONAL_IDS, ids=lambda rule: rule.entity)
def test_every_rule_names_a_recognizer_of_its_entity(rule: NationalId) -> None:
    assert presidio(rule.recognizer).supported_entities == [rule.entity]


def test_edits_describe_the_change_without_the_value() -> None:
    text = "mail jane@example.com, IP 8.8.4.4"
    edited, edits, _ = scrub(text, "en", OPTIONS)
    assert edits == [
        Edit("pii", "pii.email", 5, 21, "<EMAIL_1>"),
        Edit("pii", "pii.ip", 26, 33, "<IP_1>"),
    ]
    assert edited == apply(text, edits)
    assert "jane" not in repr(edits)


def apply(text: str, edits: list[Edit]) -> str:
    out, end = "", 0
    for edit in edits:
        out += text[end : edit.start] + edit.replacement
        end = edit.end
    return out + text[end:]


def test_signals_count_findings() -> None:
    text = ("a@example.com b@example.com " + "x" * 1000)[:1000]
    values = scrub(text, "en", OPTIONS)[2]
    assert list(values) == [signal.name for signal in SIGNALS]
    assert (values["pii.email"], values["pii.total"], values["pii.density"]) == (2, 2, 2.0)
    assert values == measure(text, "en", OPTIONS)
    assert scrub("", "en", OPTIONS) == ("", [], dict.fromkeys(values, 0))


def test_density_bound_divides_a_directory_from_a_page() -> None:
    bound = next(signal.default for signal in SIGNALS if signal.name == "pii.density")
    assert bound is not None
    inside = ("a@example.com " * 6).ljust(1000, ".")
    outside = ("a@example.com " * 7).ljust(1000, ".")
    assert bound.admits(measure(inside, "en", OPTIONS)["pii.density"])
    assert not bound.admits(measure(outside, "en", OPTIONS)["pii.density"])


def test_options_choose_what_is_removed() -> None:
    text = "a@example.com, IP 192.168.1.1, IP 8.8.4.4, SSN 536-22-1234, PESEL 44051401359"
    only_mail = PiiOptions(categories=("email",))
    assert clean(text, options=only_mail) == text.replace("a@example.com", "<EMAIL_1>")
    everywhere = PiiOptions(categories=("ip",), ip_ranges="all")
    assert "192.168" not in clean(text, options=everywhere)
    polish = PiiOptions(categories=("national_id",), national_ids=("PL_PESEL",))
    assert clean(text, options=polish) == text.replace("44051401359", "<ID_1>")


def test_language_and_regions_choose_the_national_plan() -> None:
    number = "01 99 00 12 34"  # of a range that France keeps for fiction
    assert clean(number, "fr") == clean(number, "fr-FR") == "<PHONE_1>"
    assert clean(number, "en") == clean(number, "") == number
    assert clean(number, "en", PiiOptions(phone_regions=("FR",))) == "<PHONE_1>"


@pytest.mark.parametrize(
    "wrong",
    [
        {"categories": ("person",)},
        {"ip_ranges": "some"},
        {"phone_regions": ("usa",)},
        {"national_ids": ("XX_ID",)},
    ],
)
def test_options_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"choose|write"):
        PiiOptions(**wrong)  # type: ignore[arg-type]


def test_overlaps_are_settled_by_score_length_place_and_category() -> None:
    sure = Finding("phone", 0, 4, 0.9)
    longer = Finding("card", 2, 9, 0.5)
    shorter = Finding("ip", 8, 12, 0.5)
    later = Finding("email", 20, 25, 0.5)
    tie = Finding("secret", 20, 25, 0.5)
    assert resolve([longer, sure, shorter, later, tie]) == [sure, shorter, tie]
    assert resolve([shorter, longer]) == [longer]


SNIPPETS = st.sampled_from(
    [
        *REPLACED,
        *KEPT,
        "The quick brown fox",
        "tel",
        "card",
        "<EMAIL_1>",
        "<SECRET_2>",
        "1234 5678 9012",
        "2019-2020",
        "password: ",
        "@",
        "+49 30 ",
        "DE89 3704 0044 0532 0130 00",
    ]
)
GLUE = st.sampled_from([" ", "\n", ", ", ". ", "", "; ", " (", ") ", "\u00a0"])
TEXTS = st.lists(st.tuples(SNIPPETS, GLUE), max_size=8).map(
    lambda parts: "".join(snippet + glue for snippet, glue in parts)
)


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_windows_find_what_the_whole_text_does(text: str) -> None:
    by_windows = detect(text, "en", OPTIONS, find_candidates(text))
    assert by_windows == detect(text, "en", OPTIONS, whole_text(text))


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_scrubbing_again_changes_nothing(text: str) -> None:
    once, edits, values = scrub(text, "en", OPTIONS)
    assert scrub(once, "en", OPTIONS)[:2] == (once, [])
    assert apply(text, edits) == once
    spans = [(edit.start, edit.end) for edit in edits]
    assert spans == sorted(spans)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    assert values["pii.total"] == len(edits)
    assert sum(int(values[f"pii.{name}"] or 0) for name in CATEGORIES) == len(edits)


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(exclude_categories=())) | st.text("@.:-+0123456789 aA/<>_%[]\ud800"))
def test_no_text_raises(text: str) -> None:
    once = scrub(text, "xx", OPTIONS)[0]
    assert scrub(once, "xx", OPTIONS)[0] == once


@pytest.mark.parametrize(
    "unit", ["a", "1", "1 ", "a@", "a.", "1.", "::", "A1", "+1", "\x00", "pass ", "-----BEGIN "]
)
def test_long_lines_do_not_hang(unit: str) -> None:
    text = (unit * 200_000)[:200_000]
    thread = threading.Thread(target=scrub, args=(text, "en", OPTIONS), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


def test_nothing_is_asked_of_the_network() -> None:
    code = (
        "import socket\n"
        "def refuse(*_, **__): raise SystemExit('network')\n"
        "socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse\n"
        "import sys\n"
        "from filters.pii import PiiOptions, scrub\n"
        "heavy = {'presidio_analyzer', 'spacy', 'tldextract', 'phonenumbers'}\n"
        "assert not heavy & set(sys.modules)\n"
        "assert scrub('a@example.co.uk', 'en', PiiOptions())[0] == '<EMAIL_1>'\n"
        "assert scrub('a@example.invalidtld', 'en', PiiOptions())[1] == []\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_threads_share_the_recognizers() -> None:
    text = " ".join(REPLACED)
    expected = scrub(text, "en", OPTIONS)
    results: list[object] = []
    threads = [
        threading.Thread(target=lambda: results.append(scrub(text, "en", OPTIONS)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4
