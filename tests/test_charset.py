"""Decoding pages: WHATWG order, declarations that the bytes refute, browser code pages."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.charset import MAX_REFUTED, decode
from filters.codecs_web import decode_bytes
from filters.meta_charset import PRESCAN_BYTES, declared_charset, encoding_for_label, prescan

RUSSIAN = "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 8
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたか頓と見当がつかぬ。" * 8
CHINESE = "天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。寒来暑往，秋收冬藏。" * 8
KOREAN = "모든 국민은 법 앞에 평등하다. 누구든지 차별을 받지 아니한다. " * 8
POLISH = "Zażółć gęślą jaźń. Pchnąć w tę łódź jeża lub ośm skrzyń fig. " * 8


def page(meta: str, text: str, codec: str) -> bytes:
    return f"<html><head>{meta}<title>x</title></head><body>{text}</body>".encode(codec)


@pytest.mark.parametrize(
    ("mark", "codec", "name"),
    [
        (codecs.BOM_UTF8, "utf-8", "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le", "utf-16le"),
        (codecs.BOM_UTF16_BE, "utf-16-be", "utf-16be"),
        (codecs.BOM_UTF32_LE, "utf-32-le", "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be", "utf-32-be"),
    ],
)
def test_byte_order_mark_beats_header_and_meta(mark: bytes, codec: str, name: str) -> None:
    payload = mark + page('<meta charset="koi8-r">', RUSSIAN, codec)
    decoded = decode(payload, "windows-1251", html=True)
    assert (decoded.charset, decoded.source, decoded.loss) == (name, "bom", 0.0)
    assert RUSSIAN in decoded.text
    assert not decoded.text.startswith("\ufeff")


def test_header_beats_meta_and_meta_beats_the_bytes() -> None:
    payload = page('<meta charset="koi8-r">', RUSSIAN, "windows-1251")
    assert decode(payload, "windows-1251", html=True).source == "http"
    assert RUSSIAN in decode(payload, "windows-1251", html=True).text
    # Both are single-byte, so nothing refutes the meta element: it is believed, as in browsers.
    assert decode(payload, None, html=True).charset == "koi8-r"


def test_meta_is_no_evidence_outside_html() -> None:
    payload = page('<meta charset="koi8-r">', RUSSIAN, "windows-1251")
    assert decode(payload, None, html=False).source == "detector"


def test_unknown_label_declares_nothing() -> None:
    decoded = decode("naïve café".encode(), "utf-8859-1", html=False)
    assert (decoded.text, decoded.source) == ("naïve café", "utf-8")


def test_valid_utf8_overrules_a_legacy_declaration() -> None:
    payload = page("", "Ein Käse", "utf-8")
    decoded = decode(payload, "iso-8859-1", html=True)
    assert (decoded.charset, decoded.source) == ("utf-8", "utf-8")
    assert "Käse" in decoded.text


def test_two_utf8_like_sequences_do_not_overrule_a_multibyte_declaration() -> None:
    payload = "一只".encode("gbk")
    assert payload.decode("utf-8")  # by accident also valid UTF-8
    assert decode(payload, "gbk", html=False).text == "一只"
    assert decode("一只猫".encode(), "gbk", html=False).text == "一只猫"


def test_declaration_is_refuted_above_a_tenth_of_broken_characters() -> None:
    good, bad = "é".encode(), b"\xe9 "
    # 9 of 10 characters beyond ASCII decode: noise; 8 of 9 do not: another encoding.
    noise = decode(good * 9 + bad, "utf-8", html=False)
    assert noise.source == "http"
    assert noise.text.count("\ufffd") == 1
    assert noise.loss == pytest.approx(1 / len(noise.text))
    wrong = decode(b"caf\xe9 et th\xe9, na\xefve id\xe9e " * 4, "utf-8", html=False)
    assert wrong.source == "detector"
    assert wrong.text.startswith("café et thé")
    assert 1 / 10 <= MAX_REFUTED < 1 / 9


def test_undeclared_utf8_cut_inside_a_character_stays_utf8() -> None:
    payload = RUSSIAN.encode()[:-2]
    payload = payload[:-1] if payload[-1] < 0x80 else payload
    decoded = decode(payload + b"\xd0", None, html=False)
    assert (decoded.charset, decoded.source) == ("utf-8", "utf-8")
    assert 0 < decoded.loss < 0.01


@pytest.mark.parametrize(
    ("text", "codec", "name"),
    [
        (RUSSIAN, "windows-1251", "windows-1251"),
        (RUSSIAN, "koi8-r", "koi8-r"),
        (JAPANESE, "shift_jis", "shift_jis"),
        (JAPANESE, "euc-jp", "euc-jp"),
        (JAPANESE, "iso-2022-jp", "iso-2022-jp"),
        (CHINESE, "gb2312", None),
        (KOREAN, "euc-kr", "euc-kr"),
        (POLISH, "iso-8859-2", "iso-8859-2"),
        (RUSSIAN, "utf-16-le", "utf-16le"),
    ],
)
def test_detector_reads_undeclared_text(text: str, codec: str, name: str | None) -> None:
    decoded = decode(text.encode(codec), None, html=False)
    assert decoded.text == text
    assert decoded.source == "detector"
    assert name is None or decoded.charset == name


def test_detector_looks_where_the_first_foreign_byte_stands() -> None:
    payload = b"plain ascii words " * 20_000 + RUSSIAN.encode("windows-1251")
    assert decode(payload, None, html=False).text.endswith(RUSSIAN)


def test_hz_and_iso_2022_kr_are_read_although_browsers_refuse_them() -> None:
    assert decode(CHINESE.encode("hz"), "hz-gb-2312", html=False).text == CHINESE
    assert decode(KOREAN.encode("iso2022_kr"), "iso-2022-kr", html=False).text == KOREAN


@pytest.mark.parametrize(
    ("payload", "encoding", "text"),
    [
        (b"\x80\x81\x9d", "windows-1252", "€\x81\x9d"),
        (b"\x98", "windows-1251", "\x98"),
        (b"\xca", "windows-1255", "\u05ba"),
        (b"\xae\xbe", "koi8-u", "\u045e\u040e"),
        (b"\x80\xff", "x-user-defined", "\uf780\uf7ff"),
        (b"\x80", "gbk", "€"),
        (b"\xad\xa1", "euc-jp", "①"),
        (b"\x87\x40", "shift_jis", "①"),
        (b"\xb0\xa1\x81\x41", "euc-kr", "가갂"),
        (b"\xc6\xa1", "big5", "①"),
        (b"\xa4\xa4", "big5", "中"),
    ],
)
def test_code_pages_as_browsers_read_them(payload: bytes, encoding: str, text: str) -> None:
    assert decode_bytes(payload, encoding) == (text, 0)


def test_replacement_characters_of_the_author_are_no_loss() -> None:
    assert decode_bytes("a\ufffdb".encode(), "utf-8") == ("a\ufffdb", 0)
    assert decode_bytes("a\ufffdb".encode() + b"\xff", "utf-8") == ("a\ufffdb\ufffd", 1)
    assert decode_bytes("\ufffd".encode("gb18030") + b"\xff", "gb18030") == ("\ufffd\ufffd", 1)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b'<meta charset="utf-8">', "utf-8"),
        (b"<META CHARSET = 'Windows-1251' >", "windows-1251"),
        (b"<meta charset=latin1>", "windows-1252"),
        (b"<meta charset=utf-16le>", "utf-8"),
        (b"<meta charset=x-user-defined>", "windows-1252"),
        (b"<meta charset=bogus>", None),
        (b"<metacharset=utf-8>", None),
        (b'<meta content="text/html; charset=koi8-r" http-equiv=Content-Type>', "koi8-r"),
        (b"<meta http-equiv=Content-Type content=\"text/html; charset =  'euc-kr'\">", "euc-kr"),
        (b'<meta name=x content="text/html; charset=koi8-r">', None),
        (b"<!-- <meta charset=koi8-r> --><meta charset=big5>", "big5"),
        (b"<!--><meta charset=koi8-r>", "koi8-r"),
        (b'<a title="<meta charset=koi8-r>"><meta charset=big5>', "big5"),
        (b'<meta charset="utf-8', None),
        (b"<meta charset=utf-8", None),
        (b"<?php x ?><meta charset=big5>", "big5"),
        (b'<?xml version="1.0" encoding="iso-8859-2"?><p>', "iso-8859-2"),
        (b"<?xml version='1.0' encoding='EUC-JP'?><meta charset=big5>", "big5"),
        (b"<\0?\0x\0", "utf-16le"),
        (b"\0<\0?\0x", "utf-16be"),
        (b"", None),
    ],
)
def test_prescan(head: bytes, expected: str | None) -> None:
    assert prescan(head) == expected


def test_a_meta_behind_the_first_kilobyte_is_still_found() -> None:
    late = b"<meta charset=koi8-r>"
    assert declared_charset(b" " * PRESCAN_BYTES + late) == "koi8-r"
    assert declared_charset(b" " * (1 << 16) + late) is None
    cut = b" " * (PRESCAN_BYTES - 10) + late
    assert prescan(cut[:PRESCAN_BYTES]) is None
    assert declared_charset(cut) == "koi8-r"


@pytest.mark.parametrize(
    ("label", "name"),
    [(" UTF8\n", "utf-8"), ("ascii", "windows-1252"), ("GB2312", "gbk"), ("nonsense", None)],
)
def test_labels(label: str, name: str | None) -> None:
    assert encoding_for_label(label) == name


LABELS = st.sampled_from([None, "", "utf-8", "gbk", "big5", "shift_jis", "euc-jp", "utf-16", "?"])


@given(st.binary(max_size=400), LABELS, st.booleans())
def test_any_bytes_decode(payload: bytes, label: str | None, html: bool) -> None:
    decoded = decode(payload, label, html=html)
    assert 0.0 <= decoded.loss <= 1.0
    decoded.text.encode()  # no lone surrogates


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0\x1b~")))
def test_utf8_survives_any_single_byte_declaration(text: str) -> None:
    payload = text.encode()
    if not payload.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        assert decode(payload, "windows-1252", html=False).text == text


def test_hostile_markup_is_scanned_in_linear_time() -> None:
    for piece in (b"<meta ", b"<!--", b'<a "', b"<meta content=charset", b"<?", b"</a "):
        decode(piece * (1_000_000 // len(piece)), None, html=True)
