"""WARC and ARC: every record becomes one item, damage is named and reading goes on behind it."""

from __future__ import annotations

import gzip
import io
import random

import lz4.frame
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.document import DeadLetter, Document
from filters.record_signals import SIGNALS
from pipelines.sources.caps import ReadCaps
from pipelines.sources.records import read_records

Item = Document | DeadLetter
HTML = b"<html><head><title>t</title></head><body>Page %d</body></html>"


def http(body: bytes, headers: bytes = b"Content-Type: text/html\r\n") -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n" + body


def record(
    block: bytes,
    kind: bytes = b"response",
    content_type: bytes = b"application/http; msgtype=response",
    extra: bytes = b"",
    length: int | None = None,
) -> bytes:
    size = len(block) if length is None else length
    head = b"WARC/1.0\r\nWARC-Type: %s\r\nWARC-Target-URI: http://a.example/\r\n" % kind
    head += b"WARC-Date: 2024-05-06T07:08:09Z\r\nContent-Type: %s\r\n%s" % (content_type, extra)
    return head + b"Content-Length: %d\r\n\r\n%s\r\n\r\n" % (size, block)


PAGES = [record(http(HTML % i)) for i in range(5)]


def read(
    data: bytes, kind: str = "warc", caps: ReadCaps | None = None, **options: str
) -> list[Item]:
    return list(
        read_records(
            kind,
            io.BytesIO(data),
            name="x.warc",
            source="crawl",
            identify=lambda position: f"id-{position}",
            caps=caps,
            options=options,
        )
    )


def documents(items: list[Item]) -> list[Document]:
    return [item for item in items if isinstance(item, Document)]


def dead(items: list[Item]) -> list[DeadLetter]:
    return [item for item in items if isinstance(item, DeadLetter)]


def pages_read(items: list[Item]) -> list[int]:
    return [i for i in range(5) for d in documents(items) if f"Page {i}<" in d.html]


def test_a_response_with_all_its_signals() -> None:
    block = http(
        b"caf\xe9 <meta name=robots content=noarchive>",
        b"Content-Type: text/HTML; charset=latin1\r\nX-Robots-Tag: noai\r\n"
        b"Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n",
    )
    extra = b"WARC-Record-ID: <urn:uuid:1>\r\nWARC-Payload-Digest: sha1:ABC\r\n"
    (document,) = documents(read(record(block, extra=extra)))
    assert document.id == "id-0"
    assert document.source == "crawl"
    assert document.url == "http://a.example/"
    assert document.html.startswith("café")
    assert document.text == ""
    assert document.signals == {
        "read.record_type": "response",
        "read.http_status": 200,
        "read.mime": "text/html",
        "read.bytes": 41,
        "read.charset": "windows-1252",
        "read.charset_source": "http",
        "read.decode_loss": 0.0,
        "read.truncated": False,
        "read.noindex": False,
        "read.nofollow": False,
        "read.noarchive": True,
        "read.noai": True,
        "read.noimageai": False,
    }
    assert set(document.signals) == {signal.name for signal in SIGNALS}
    assert document.metadata == {
        "date": "2024-05-06T07:08:09Z",
        "record_id": "<urn:uuid:1>",
        "payload_digest": "sha1:ABC",
        "last_modified": "Mon, 01 Jan 2024 00:00:00 GMT",
        "content_type": "text/HTML; charset=latin1",
        "offset": "0",
    }


@pytest.mark.parametrize("version", [b"0.17", b"0.18", b"1.0", b"1.1"])
@pytest.mark.parametrize("newline", [b"\r\n", b"\n", b"\r\r\n"])
def test_versions_and_line_ends(version: bytes, newline: bytes) -> None:
    page = http(HTML % 0)
    head = newline.join(
        [
            b"warc/" + version if newline == b"\n" else b"WARC/" + version,
            b"WARC-Type: response",
            b"Content-Type: application/http;",
            b" msgtype=response",
            b"content-LENGTH: %d" % len(page),
            b"WARC-Target-URI: <http://b.example/>",
            b"",
            page,
            b"",
            b"",
        ]
    )
    items = read(head * 3)
    assert [d.url for d in documents(items)] == ["http://b.example/"] * 3
    assert len(items) == 3


CONTAINERS = {
    "plain": b"".join,
    "gzip per record": lambda records: b"".join(map(gzip.compress, records)),
    "one gzip": lambda records: gzip.compress(b"".join(records)),
    "zstd": lambda records: b"".join(map(zstandard.compress, records)),
    "lz4": lambda records: b"".join(map(lz4.frame.compress, records)),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers_and_offsets(container: str) -> None:
    items = read(CONTAINERS[container](PAGES))
    assert pages_read(items) == [0, 1, 2, 3, 4]
    assert not dead(items)
    offsets = [int(d.metadata["offset"]) for d in documents(items)]
    if container == "one gzip":
        assert offsets == [0] * 5
    elif container == "plain":
        assert offsets == [sum(map(len, PAGES[:i])) for i in range(5)]
    else:
        # Each offset is where reading that record alone can begin.
        data = CONTAINERS[container](PAGES)
        assert [pages_read(read(data[o:]))[0] for o in offsets] == [0, 1, 2, 3, 4]


OTHER = [
    record(b"software: x\r\n", b"warcinfo", b"application/warc-fields"),
    record(b"GET / HTTP/1.1\r\n\r\n", b"request", b"application/http; msgtype=request"),
    record(b"via: x\r\n", b"metadata", b"application/warc-fields"),
    record(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", b"revisit"),
    record(b"20240506\r\na.example. 1 IN A 1.2.3.4\r\n", b"response", b"text/dns"),
    record(b"\x89PNG\r\n\x1a\n", b"resource", b"image/png"),
]


def test_records_that_are_no_pages_are_documents_without_text() -> None:
    items = read(b"".join(OTHER))
    assert [d.signals["read.record_type"] for d in documents(items)] == [
        *("warcinfo", "request", "metadata", "revisit", "response", "resource")
    ]
    assert [d.signals["read.mime"] for d in documents(items)] == [
        *("application/warc-fields", "application/http", "application/warc-fields"),
        *("text/html", "text/dns", "image/png"),
    ]
    assert not any(d.text or d.html for d in documents(items))
    bounds = {signal.name: signal.default for signal in SIGNALS if signal.default}
    for document in documents(items):
        assert not all(bound.admits(document.signals[name]) for name, bound in bounds.items())


def test_conversion_resource_and_plain_text() -> None:
    data = record("Ein Käse".encode(), b"conversion", b"text/plain")
    data += record(HTML % 1, b"resource", b"text/html; charset=utf-8")
    data += record(http(b"just words", b"Content-Type: text/plain\r\n"))
    wet, resource, plain = documents(read(data, "wet"))
    assert (wet.text, wet.html, wet.signals["read.charset_source"]) == ("Ein Käse", "", "utf-8")
    assert "Page 1" in resource.html
    assert resource.signals["read.http_status"] is None
    assert plain.text == "just words"


def test_mime_is_sniffed_where_the_header_names_none() -> None:
    data = record(http(HTML % 2, b"")) + record(http(b"\0\1\2", b"Content-Type: x\r\n"))
    page, binary = documents(read(data))
    assert (page.signals["read.mime"], "Page 2" in page.html) == ("text/html", True)
    assert binary.signals["read.mime"] == "application/octet-stream"


def test_truncation_is_a_signal() -> None:
    data = record(http(b"x", b"Content-Length: 9\r\nContent-Type: text/html\r\n"))
    data += record(http(b"x"), extra=b"WARC-Truncated: length\r\n") + PAGES[0]
    assert [d.signals["read.truncated"] for d in documents(read(data))] == [True, True, False]


def test_skipped_records_are_not_decoded_but_keep_their_positions() -> None:
    bad = record(http(b"\x1f\x8b\x08\0" + b"\xff" * 40, b"Content-Encoding: gzip\r\n"))
    stream = io.BytesIO(bad + b"".join(PAGES))
    items = list(
        read_records(
            *("warc", stream), name="x", source="s", identify=str, accept=lambda i: i in {"2", "4"}
        )
    )
    assert [item.id for item in items if isinstance(item, Document)] == ["2", "4"]
    assert len(items) == 2
    assert dead(read(bad))[0].error == "ContentCodingError"


@pytest.mark.parametrize("delta", [-9, -1, 1, 60, 10_000_000])
@pytest.mark.parametrize("container", ["plain", "gzip per record", "one gzip"])
def test_a_wrong_length_costs_one_record(container: str, delta: int) -> None:
    block = http(HTML % 1)
    records = [PAGES[0], record(block, length=len(block) + delta), *PAGES[2:]]
    items = read(CONTAINERS[container](records))
    if delta == 1 and len(dead(items)) == 0:
        # One line break too many in the block still ends before the next record.
        assert pages_read(items) == [0, 1, 2, 3, 4]
        return
    assert pages_read(items) == [0, 2, 3, 4]
    (letter,) = dead(items)
    assert letter.record == "id-1"
    assert letter.stage == "read"
    assert letter.error == "WrongContentLength"
    assert f"states {len(block) + delta} bytes" in letter.message
    assert "Page" not in letter.message


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (PAGES[1].replace(b"WARC/1.0\r\n", b""), "MissingVersionLine"),
        (PAGES[1].replace(b"Content-Length", b"Content-Size"), "MissingContentLength"),
        (PAGES[1].replace(b"Content-Length: ", b"Content-Length: -"), "BadContentLength"),
        (record(b"", length=10**30), "RecordTooLarge"),
        (b"complete nonsense\r\n\r\n", "MissingVersionLine"),
    ],
)
def test_a_broken_header_costs_one_record(broken: bytes, error: str) -> None:
    items = read(PAGES[0] + broken + PAGES[2] + PAGES[3] + PAGES[4])
    assert pages_read(items) == [0, 2, 3, 4]
    assert [letter.error for letter in dead(items)] == [error]
    assert f"offset {len(PAGES[0])}" in dead(items)[0].message


def test_record_at_the_cap_and_one_byte_above() -> None:
    size = len(http(HTML % 0))
    assert pages_read(read(PAGES[0], caps=ReadCaps(max_record_bytes=size))) == [0]
    (letter,) = dead(read(PAGES[0], caps=ReadCaps(max_record_bytes=size - 1)))
    assert letter.error == "RecordTooLarge"
    assert letter.message.endswith(f"over max_record_bytes = {size - 1}")


def test_page_caps() -> None:
    size = len(HTML % 0)
    assert pages_read(read(PAGES[0], caps=ReadCaps(max_html_bytes=size))) == [0]
    (letter,) = dead(read(PAGES[0], caps=ReadCaps(max_html_bytes=size - 1)))
    assert letter.error == "PageTooLarge"
    bomb = record(http(gzip.compress(b"\0" * 5000), b"Content-Encoding: gzip\r\n"))
    assert not dead(read(bomb, caps=ReadCaps(max_expanded_bytes=5000)))
    (letter,) = dead(read(bomb, caps=ReadCaps(max_expanded_bytes=4999)))
    assert letter.error == "ExpansionTooLarge"
    with pytest.raises(ValueError, match="max_html_bytes is 0; it must be at least 1 byte"):
        ReadCaps(max_html_bytes=0)


def test_truncated_file() -> None:
    items = read(b"".join(PAGES)[:-30])
    assert pages_read(items) == [0, 1, 2, 3]
    assert dead(items)[0].error == "TruncatedRecord"
    items = read(b"".join(map(gzip.compress, PAGES))[:-30])
    assert pages_read(items) == [0, 1, 2, 3]
    assert dead(items)[0].error == "TruncatedMember"


def test_a_record_whole_before_the_cut_is_kept_and_the_cut_is_reported() -> None:
    items = read(b"".join(map(gzip.compress, PAGES))[:-4])
    assert pages_read(items) == [0, 1, 2, 3, 4]
    assert [letter.error for letter in dead(items)] == ["TruncatedMember"]


def test_wrong_checksum_costs_the_record() -> None:
    members = [bytearray(gzip.compress(page)) for page in PAGES]
    members[2][-8] ^= 1
    items = read(b"".join(members))
    assert pages_read(items) == [0, 1, 3, 4]
    assert [letter.record for letter in dead(items)] == ["id-2"]


def test_damage_in_one_gzip_keeps_the_records_before_it() -> None:
    noise = random.Random(5)
    pages = [record(http(HTML % i + noise.randbytes(300).hex().encode())) for i in range(5)]
    data = bytearray(gzip.compress(b"".join(pages)))
    data[len(data) * 7 // 10] ^= 0x55
    items = read(bytes(data))
    assert pages_read(items)[:3] == [0, 1, 2]
    assert dead(items)


def test_version_line_inside_a_page_does_not_split_it() -> None:
    inner = b"<pre>\r\n\r\nWARC/1.0\r\nWARC-Type: response\r\n\r\n</pre>"
    items = read(record(http(inner)) + PAGES[1])
    assert len(items) == 2
    assert b"WARC/1.0" in documents(items)[0].html.encode()


def test_empty_input_and_foreign_bytes_are_one_dead_letter() -> None:
    assert [letter.error for letter in dead(read(b""))] == ["EmptyInput"]
    assert [letter.error for letter in dead(read(gzip.compress(b"")))] == ["EmptyInput"]
    assert [letter.error for letter in dead(read(b'{"text": 1}\n' * 99))] == ["MissingVersionLine"]


def arc(
    block: bytes, url: bytes = b"http://a.example/ b", date: bytes = b"20080430204825"
) -> bytes:
    return b"%s 1.2.3.4 %s text/html %d\n%s\n" % (url, date, len(block), block)


ARC = arc(b"1 1 InternetArchive\nURL IP-address\n", b"filedesc://x.arc")


def test_arc_records() -> None:
    data = ARC + arc(http(HTML % 0)) + arc(b"x IN A 1.2.3.4", b"dns:a.example")
    data += b"http://c.example/ 1.2.3.4 20080430204825 text/html 200 X - 99 x.arc %d\n%s\n" % (
        *(len(http(HTML % 1)), http(HTML % 1)),
    )
    info, page, dns, second = documents(read(data))
    assert info.signals["read.record_type"] == "warcinfo"
    assert (page.url, page.metadata["date"]) == ("http://a.example/ b", "2008-04-30T20:48:25Z")
    assert "Page 0" in page.html
    assert dns.signals["read.record_type"] == "resource"
    assert (second.url, "Page 1" in second.html) == ("http://c.example/", True)
    assert pages_read(read(b"".join(map(gzip.compress, [ARC, arc(http(HTML % 3))])))) == [3]


def test_arc_damage() -> None:
    short = arc(http(HTML % 1)).replace(b" %d\n" % len(http(HTML % 1)), b" 50\n")
    items = read(ARC + arc(http(HTML % 0)) + short + arc(http(HTML % 2)))
    assert pages_read(items) == [0, 2]
    assert [letter.error for letter in dead(items)] == ["WrongContentLength"]


def test_one_flipped_byte_costs_at_most_two_records() -> None:
    choose = random.Random(7)
    for container, whole in CONTAINERS.items():
        data = whole(PAGES)
        for _ in range(40):
            at = choose.randrange(len(data))
            flipped = data[:at] + bytes([data[at] ^ (1 << choose.randrange(8))]) + data[at + 1 :]
            items = read(flipped)
            lost = 5 - len(documents(items))
            assert dead(items) or lost <= 0, (container, at)
            if container != "one gzip":
                assert lost <= 2, (container, at)


@settings(max_examples=150)
@given(st.data())
def test_any_bytes_come_to_an_end(data: st.DataObject) -> None:
    whole = CONTAINERS[data.draw(st.sampled_from(sorted(CONTAINERS)))](PAGES[:3])
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    items = read(whole[:start] + data.draw(st.binary(max_size=60)) + whole[end:])
    assert [item.record if isinstance(item, DeadLetter) else item.id for item in items] == [
        f"id-{position}" for position in range(len(items))
    ]


@given(st.binary(max_size=300), st.sampled_from([b"", b"WARC/1.0\r\n", b"filedesc://x "]))
def test_arbitrary_bytes_come_to_an_end(data: bytes, head: bytes) -> None:
    read(head + data)
    read(record(data) + record(http(data, b"Content-Encoding: br, deflate\r\n")))


def test_a_length_that_swallows_the_next_record_whole_shows_at_the_member_boundary() -> None:
    block = http(HTML % 1)
    swallowing = record(block, length=len(block) + len(PAGES[2]))
    items = read(b"".join(map(gzip.compress, [PAGES[0], swallowing, *PAGES[2:]])))
    assert pages_read(items) == [0, 2, 3, 4]
    assert "its member ends after" in dead(items)[0].message
