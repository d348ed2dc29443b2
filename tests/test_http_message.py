"""HTTP messages as archives hold them, and the MIME type of what they carry."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.http_message import parse_http_response, payload, split_content_type
from filters.mime import effective_mime, sniff

CAP = 1 << 20


def test_status_headers_and_body() -> None:
    message = parse_http_response(b"HTTP/1.1 200 OK\r\nA: 1\r\nB:2\r\nA: 3\r\n\r\nbody")
    assert (message.status, message.body, message.complete) == (200, b"body", True)
    assert message.headers == (("a", "1"), ("b", "2"), ("a", "3"))
    assert message.header("a") == "1"
    assert message.headers_named("a") == ["1", "3"]


@pytest.mark.parametrize(
    ("block", "status", "body"),
    [
        (b"HTTP/1.0 404\r\n\r\nx", 404, b"x"),
        (b"HTTP/1.1 200 OK\nA: 1\n\nx", 200, b"x"),
        (b"HTTP/2 200\r\nA: 1\n\r\nx", 200, b"x"),
        (b"http/1.1\t503 Caf\xe9\r\n\r\n", 503, b""),
        (b"ICY 200 OK\r\n\r\nx", 200, b"x"),
        (b"HTTP/1.1 200 OK\r\n\r\n", 200, b""),
        (b"HTTP/1.1 2000 OK\r\n\r\n", None, b"HTTP/1.1 2000 OK\r\n\r\n"),
        (b"<html>no header", None, b"<html>no header"),
        (b"", None, b""),
    ],
)
def test_tolerant_parsing(block: bytes, status: int | None, body: bytes) -> None:
    message = parse_http_response(block)
    assert (message.status, message.body) == (status, body)


def test_folded_and_latin1_headers() -> None:
    message = parse_http_response(b"HTTP/1.1 200 OK\r\nA: one\r\n\ttwo\r\nB: caf\xe9\r\n\r\n")
    assert message.header("a") == "one two"
    assert message.header("b") == "café"


def test_interim_answers_are_skipped_but_a_switch_of_protocols_is_not() -> None:
    block = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
    block += b"HTTP/1.1 200 OK\r\n\r\nx"
    assert parse_http_response(block).status == 200
    assert parse_http_response(b"HTTP/1.1 101 Switch\r\n\r\nHTTP/1.1 200 OK\r\n\r\n").status == 101
    assert parse_http_response(b"HTTP/1.1 100 Continue\r\n\r\n").status == 100


def test_header_without_end_is_incomplete() -> None:
    message = parse_http_response(b"HTTP/1.1 200 OK\r\nA: 1")
    assert (message.status, message.header("a"), message.complete) == (200, "1", False)
    assert payload(message, CAP).truncated


@pytest.mark.parametrize(
    ("length", "truncated"),
    [(b"4", False), (b"5", True), (b"3", False), (b"x", False), (b"", False), (b"9" * 30, False)],
)
def test_content_length_against_the_stored_body(length: bytes, truncated: bool) -> None:
    block = b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\nbody"
    assert payload(parse_http_response(block), CAP).truncated is truncated


def test_length_of_a_coded_body_says_nothing_about_one_stored_decoded() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 900\r\n\r\n"
    stored_decoded = payload(parse_http_response(head + b"text"), CAP)
    assert (stored_decoded.data, stored_decoded.truncated) == (b"text", False)


def test_chunked_and_compressed_body() -> None:
    coded = gzip.compress(b"page")
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(coded), coded)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n"
    whole = payload(parse_http_response(head + body), CAP)
    assert (whole.data, whole.truncated) == (b"page", False)
    cut = payload(parse_http_response(head + body[:-5]), CAP)
    assert (cut.data, cut.truncated) == (b"page", True)


@pytest.mark.parametrize(
    ("value", "mime", "charset"),
    [
        ("text/HTML; Charset=UTF-8", "text/html", "UTF-8"),
        ('text/html;charset="koi8-r"', "text/html", "koi8-r"),
        ("text/html; charset='x'; y=z", "text/html", "x"),
        ("text/html;level=1; charset=a", "text/html", "a"),
        ("text/html; notcharset=a", "text/html", None),
        ("text/html; charset=", "text/html", None),
        ("html", "", None),
        ("text/html, text/plain", "", None),
        ("", "", None),
    ],
)
def test_content_type(value: str, mime: str, charset: str | None) -> None:
    assert split_content_type(value) == (mime, charset)


@pytest.mark.parametrize(
    ("head", "mime"),
    [
        (b" \n<!DOCTYPE html><p>", "text/html"),
        (b"\xef\xbb\xbf<HTML>", "text/html"),
        (b"<p >x", "text/html"),
        (b"<!-- x -->", "text/html"),
        (b"<px>", "text/plain"),
        (b"<?xml version='1.0'?><rss>", "text/xml"),
        (b"<?xml version='1.0'?><html xmlns='x'>", "application/xhtml+xml"),
        (b"%PDF-1.4", "application/pdf"),
        (b"plain words \x1b[0m", "text/plain"),
        (b"\x89PNG\r\n\x1a\n\0", "application/octet-stream"),
        (b"\xff\xfea\0", "text/plain"),
    ],
)
def test_sniffing(head: bytes, mime: str) -> None:
    assert sniff(head) == mime
    assert effective_mime("", head) == mime
    assert effective_mime("application/octet-stream", head) == mime
    assert effective_mime("text/css", head) == "text/css"


def test_empty_payload_is_not_sniffed() -> None:
    assert effective_mime("", b"") == ""


@given(st.binary(max_size=300))
def test_any_block_parses(block: bytes) -> None:
    for start in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100\n\n"):
        message = parse_http_response(start + block)
        assert message.status is None or 0 <= message.status <= 999
        payload(message, CAP) if not message.headers_named("content-encoding") else None
    sniff(block)
