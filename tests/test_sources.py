"""HTML files, JSON Lines and Parquet, and the one entry to all readers."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from filters.document import DeadLetter, Document
from filters.record_signals import SIGNALS
from pipelines.sources.caps import Input, ReadCaps
from pipelines.sources.html import read_html_file
from pipelines.sources.records import KINDS, check_options, read_records

Item = Document | DeadLetter


def read(
    kind: str,
    data: bytes | BinaryIO,
    accept: Callable[[str], bool] = lambda _: True,
    caps: ReadCaps | None = None,
    **options: str,
) -> list[Item]:
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    return list(
        read_records(
            kind,
            stream,
            name="input",
            source="s",
            identify=lambda position: f"id-{position}",
            accept=accept,
            caps=caps,
            options=options,
        )
    )


def ids(items: list[Item]) -> list[str]:
    return [item.id if isinstance(item, Document) else f"{item.record}!" for item in items]


def document(items: list[Item]) -> Document:
    (item,) = items
    assert isinstance(item, Document)
    return item


def letters(items: list[Item]) -> list[DeadLetter]:
    return [item for item in items if isinstance(item, DeadLetter)]


def lines(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def test_unknown_kind_and_option_fail_before_anything_is_read() -> None:
    with pytest.raises(ValueError, match="unknown kind of input 'csv'; use one of warc, wet, html"):
        check_options("csv", {})
    with pytest.raises(ValueError, match="unknown option 'colour' for warc input; it takes robots"):
        read_records(
            "warc", io.BytesIO(), name="", source="", identify=str, options={"colour": "x"}
        )


def test_html_file() -> None:
    page = "<meta charset=koi8-r><meta name=ccbot content=noindex>Привет".encode("koi8-r")
    for data in (page, gzip.compress(page), zstandard.compress(page)):
        read_page = document(read("html", data, url="http://a.example/", robots_agents="CCBot"))
        assert read_page.html.endswith("Привет")
        assert read_page.url == "http://a.example/"
        assert read_page.signals["read.record_type"] == "file"
        assert read_page.signals["read.mime"] == "text/html"
        assert read_page.signals["read.noindex"] is True
    assert document(read("html", page)).signals["read.noindex"] is False
    assert read("html", page, accept=lambda _: False) == []


def test_html_file_that_is_something_else() -> None:
    assert document(read("html", b"%PDF-1.4 x")).signals["read.mime"] == "application/pdf"
    binary = document(read("html", b"\x89PNG\0\0\0"))
    assert (binary.html, binary.signals["read.mime"]) == ("", "application/octet-stream")
    assert document(read("html", b"just words")).html == "just words"
    assert document(read("html", "<?xml ?><p>x".encode("utf-16-le"))).html == "<?xml ?><p>x"
    assert document(read("html", b"")).html == ""


def test_html_file_caps_and_damage() -> None:
    assert not letters(read("html", b"12345", caps=ReadCaps(max_html_bytes=5)))
    for data in (b"123456", gzip.compress(b"123456")):
        assert (
            letters(read("html", data, caps=ReadCaps(max_html_bytes=5)))[0].error == "PageTooLarge"
        )
    assert letters(read("html", gzip.compress(b"x" * 999)[:-3]))[0].error == "TruncatedMember"


def test_html_file_from_bytes() -> None:
    page = read_html_file(b"<p>x", Input("name", "s", str))
    assert isinstance(page, Document)
    assert (page.id, page.html) == ("0", "<p>x")


ROW = {"text": "Ein Käse", "url": "http://a.example/", "id": 7, "language": "de", "date": "2024"}


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_jsonl_row(pack: Callable[[bytes], bytes]) -> None:
    row = document(read("jsonl", pack(lines(ROW)), id_field="id"))
    assert (row.text, row.url, row.html) == ("Ein Käse", "http://a.example/", "")
    assert row.metadata == {"record_id": "7", "language": "de", "date": "2024"}
    assert row.signals["read.bytes"] == 9
    assert set(row.signals) == {signal.name for signal in SIGNALS}
    assert row.language == ""


def test_jsonl_fields_can_be_named() -> None:
    row = document(
        read("jsonl", lines({"body": "x", "link": "u"}), text_field="body", url_field="link")
    )
    assert (row.text, row.url) == ("x", "u")
    page = '<meta name="robots" content="noai">'
    html = document(read("jsonl", lines({"page": page}), html_field="page"))
    assert (html.html, html.text, html.signals["read.noai"]) == (page, "", True)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"{broken", "BadJson"),
        (b'{"text": "\xff"}', "BadJson"),
        (b"[" * 100_000, "BadJson"),
        (b"[1]", "BadJson"),
        (b'{"text": 3}', "MissingText"),
        (b'{"text": null}', "MissingText"),
        (b'{"body": "secret words"}', "MissingText"),
    ],
)
def test_a_bad_line_costs_only_itself(line: bytes, error: str) -> None:
    items = read("jsonl", lines(ROW) + line + b"\n\n  \n" + lines(ROW))
    assert ids(items) == ["id-0", "id-1!", "id-2"]
    assert letters(items)[0].error == error
    assert "record 1" in letters(items)[0].message
    assert "secret" not in letters(items)[0].message


def test_jsonl_line_cap_and_last_line_without_a_break() -> None:
    line = lines(ROW).strip()
    caps = ReadCaps(max_line_bytes=len(line))
    assert ids(read("jsonl", line + b"\n" + line, caps=caps)) == ["id-0", "id-1"]
    items = read("jsonl", line + b"\n" + line + b" \n" + line + b"\n" + line + b" ", caps=caps)
    assert ids(items) == ["id-0", "id-1!", "id-2", "id-3!"]
    assert letters(items)[0].error == "LineTooLong"
    assert letters(items)[0].message.endswith(f"max_line_bytes = {len(line)}")


def test_jsonl_lines_run_across_members_and_damage_is_reported() -> None:
    data = lines(*[{"text": f"row {i}"} for i in range(50)])
    half = len(data) // 2
    assert len(read("jsonl", gzip.compress(data[:half]) + gzip.compress(data[half:]))) == 50
    items = read("jsonl", gzip.compress(data)[:-20])
    assert [letter.error for letter in letters(items)] == ["TruncatedMember"]
    assert len(items) > 10


def test_byte_order_mark_and_surrogates_in_jsonl() -> None:
    row = document(read("jsonl", b"\xef\xbb\xbf" + b'{"text": "a\\ud83d b \\ud83d\\ude00"}'))
    assert row.text == "a\ufffd b 😀"
    assert row.signals["read.decode_loss"] == pytest.approx(1 / 6)


def test_sampling_skips_rows_without_reading_them() -> None:
    items = read("jsonl", lines(ROW) + b"{bad\n" + lines(ROW), accept=lambda i: i != "id-1")
    assert ids(items) == ["id-0", "id-2"]


def parquet(rows: int = 1000, **columns: list[object]) -> bytes:
    table = pa.table({"text": [f"row {i} {i * i}" for i in range(rows)], **columns})
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=300, compression="zstd", use_dictionary=False)
    return out.getvalue()


class _Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise OSError("a pipe cannot seek")


@pytest.mark.parametrize("kind", [io.BytesIO, _Pipe])
def test_parquet_rows(kind: Callable[[bytes], BinaryIO]) -> None:
    urls: list[object] = [f"u{i}" for i in range(1000)]
    items = read("parquet", kind(parquet(url=urls, other=urls)))
    assert ids(items) == [f"id-{i}" for i in range(1000)]
    last = items[-1]
    assert isinstance(last, Document)
    assert (last.text, last.url) == ("row 999 998001", "u999")


def test_parquet_sampling_and_missing_text() -> None:
    texts: list[object] = ["a", None, "c"]
    items = read("parquet", parquet(3, page=texts), text_field="page")
    assert ids(items) == ["id-0", "id-1!", "id-2"]
    assert letters(items)[0].error == "MissingText"
    wanted = {"id-299", "id-300", "id-999"}
    assert set(ids(read("parquet", parquet(), accept=wanted.__contains__))) == wanted


def test_parquet_without_the_column() -> None:
    (letter,) = letters(read("parquet", parquet(), text_field="body"))
    assert letter.error == "MissingColumn"
    assert letter.message == "input: no column 'body' among text"


def test_corrupt_parquet_file_and_row_group() -> None:
    for data in (b"", b"PAR1", parquet()[:-9], b"no parquet" * 99):
        assert [letter.error for letter in letters(read("parquet", data))] == ["BadParquet"]
    whole = parquet()
    start = pq.ParquetFile(io.BytesIO(whole)).metadata.row_group(1).column(0).data_page_offset
    items = read("parquet", whole[:start] + b"\xff" * 400 + whole[start + 400 :])
    (letter,) = letters(items)
    assert (letter.record, letter.error) == ("id-300", "BadRowGroup")
    assert "rows 300 to 599" in letter.message
    assert ids(items)[:300] + ids(items)[301:] == [
        f"id-{i}" for i in (*range(300), *range(600, 1000))
    ]


@given(st.sampled_from(KINDS), st.binary(max_size=200))
def test_any_bytes_of_any_kind_come_to_an_end(kind: str, data: bytes) -> None:
    for item in read(kind, data):
        if isinstance(item, Document):
            (item.text + item.html).encode()


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_jsonl_round_trip(texts: list[str]) -> None:
    items = read("jsonl", lines(*[{"text": text} for text in texts]))
    found = [item.text for item in items if isinstance(item, Document)]
    assert found == texts
