"""Parts of a file: together they hold just what the whole file holds."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import random
from pathlib import Path

import lz4.frame
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import zstandard
from conftest import ROOT, digests
from hypothesis import given
from hypothesis import strategies as st
from poisoned import record

from filters.document import Document
from pipelines import parts
from pipelines.cli import main
from pipelines.command_curate import plan
from pipelines.parts import split_input, stored_parts
from pipelines.sources.caps import ReadCaps
from pipelines.sources.records import read_records
from pipelines.sources.starts import record_starts

CAPS = ReadCaps()
SAMPLES = [ROOT / "samples" / name for name in ("crawl.warc.gz", "forum.warc.gz")]


def everything(kind: str, data: bytes, start=None, end: int = -1):
    """What a reader gives from a start up to a position: (position, content) of each record."""
    positions = []

    def identify(position: int) -> str:
        positions.append(position)
        return str(position)

    stream = io.BytesIO(data)
    offset, first = (start.offset, start.position) if start else (0, 0)
    if kind != "parquet":
        stream.seek(offset)
    found = []
    for item in read_records(
        kind, stream, name="a", source="s", identify=identify, offset=offset, first=first, end=end
    ):
        position = positions[-1]
        if 0 <= end <= position:
            break
        if isinstance(item, Document):
            found.append((position, item.url, item.html, item.text, item.metadata.get("offset")))
        else:
            found.append((position, item.error, item.message, item.url, None))
    return found


def assert_parts_are_the_whole(kind: str, data: bytes) -> int:
    """Every start, taken as a cut, gives the rest of the file; how many starts there are."""
    whole = everything(kind, data)
    starts = list(record_starts(kind, io.BufferedReader(io.BytesIO(data)), CAPS))
    for start in starts:
        rest = [row for row in whole if row[0] >= start.position]
        assert everything(kind, data, start) == rest, start
    for start, following in itertools.pairwise(starts):
        part = [row for row in whole if start.position <= row[0] < following.position]
        assert everything(kind, data, start, following.position) == part
    return len(starts)


def warc(count: int = 6) -> list[bytes]:
    """Members of a WARC, one page each."""
    return [record(f"http://a.test/{n}", "word " * (20 * n + 5)) for n in range(count)]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_a_reader_can_begin_at_every_record_of_the_samples(path):
    data = path.read_bytes()
    assert assert_parts_are_the_whole("warc", data) == len(everything("warc", data)) - 1 - (
        # The member that is cut off and the record in it are one dead letter, and no start.
        1 if path.name == "forum.warc.gz" else 0
    )


@pytest.mark.parametrize(
    ("compress", "starts"),
    [
        (lambda members: b"".join(gzip.compress(m, mtime=0) for m in members), 5),
        (lambda members: b"".join(zstandard.compress(m) for m in members), 5),
        (lambda members: b"".join(lz4.frame.compress(m) for m in members), 5),
        (b"".join, 5),
        (lambda members: gzip.compress(b"".join(members), mtime=0), 0),
    ],
    ids=["gzip", "zstd", "lz4", "plain", "one stream"],
)
def test_what_can_be_shared(compress, starts):
    data = compress([gzip.decompress(member) for member in warc()])
    assert assert_parts_are_the_whole("warc", data) == starts


def test_a_file_with_a_dictionary_is_read_from_its_start():
    frame = b"\x5d\x2a\x4d\x18" + (8).to_bytes(4, "little") + b"whatever"
    stream = io.BufferedReader(io.BytesIO(frame + zstandard.compress(b"x")))
    assert list(record_starts("warc", stream, CAPS)) == []


@given(st.randoms(use_true_random=False), st.integers(1, 4))
def test_damage_of_any_kind_is_told_alike_by_parts_and_whole(chance: random.Random, times: int):
    data = bytearray(b"".join(warc()))
    for _ in range(times):
        place = chance.randrange(len(data))
        match chance.randrange(3):
            case 0:
                data[place] ^= 1 << chance.randrange(8)
            case 1:
                del data[place : place + chance.randrange(200)]
            case _:
                data[place:place] = chance.randbytes(chance.randrange(40))
    assert_parts_are_the_whole("warc", bytes(data))


@given(st.lists(st.sampled_from([b'{"text":"a"}', b"", b"{bad", b"\xef\xbb\xbf{}", b" "])))
def test_lines_of_any_kind(lines: list[bytes]):
    assert_parts_are_the_whole("jsonl", b"\n".join(lines))
    assert list(record_starts("jsonl", io.BytesIO(gzip.compress(b"\n".join(lines))), CAPS)) == []


def test_row_groups():
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": [f"row {n}" for n in range(10)]}), buffer, row_group_size=3)
    assert assert_parts_are_the_whole("parquet", buffer.getvalue()) == 3
    assert list(record_starts("parquet", io.BytesIO(b"no table"), CAPS)) == []


# --- cuts ---------------------------------------------------------------------------------------


def small_recipe(folder: Path, part_bytes: int) -> str:
    path = folder / f"parts-{part_bytes}.yaml"
    path.write_text(
        f"name: parts\ndescription: small parts\ncaps: {{part_bytes: {part_bytes}}}\n"
        "stages: [read, extract, duplicates, pii]\n"
    )
    return str(path)


def planned(folder: Path, path: str, part_bytes: int):
    from pipelines.cli import parser

    recipe = small_recipe(folder, part_bytes)
    words = ["curate", "--input", path, "--output", str(folder / "out"), "--recipe", recipe]
    return plan(parser().parse_args(words))


def archive(folder: Path, count: int = 40) -> str:
    path = folder / "a.warc.gz"
    path.write_bytes(b"".join(warc(count)))
    return str(path)


def test_parts_are_of_the_size_that_was_asked_for_and_found_again(tmp_path, monkeypatch):
    run, [item] = planned(tmp_path, archive(tmp_path), 1000)
    with pytest.raises(FileNotFoundError):
        stored_parts(item, run)
    found = split_input(item, run)
    assert len(found) > 3
    assert all(1000 <= part.size < 2000 for part in found[:-1])
    assert found[-1].size >= 500
    assert sum(part.size for part in found) == item.size
    assert [part.first for part in found[1:]] == [part.end for part in found[:-1]]
    assert (found[0].first, found[0].key, found[-1].end) == (0, item.key, -1)
    monkeypatch.setattr(parts, "_scan", None)
    assert split_input(item, run) == stored_parts(item, run) == found


@pytest.mark.parametrize(("part_bytes", "cut"), [(1, True), (1 << 20, False)])
def test_a_file_is_cut_from_twice_the_size_of_a_part(tmp_path, part_bytes, cut):
    run, [item] = planned(tmp_path, archive(tmp_path), part_bytes)
    assert (len(split_input(item, run)) > 1) == cut


def test_just_below_twice_the_size_is_one_part(tmp_path):
    size = Path(archive(tmp_path)).stat().st_size
    for part_bytes, large in ((size // 2, True), (size // 2 + 1, False)):
        run, [item] = planned(tmp_path, archive(tmp_path), part_bytes)
        assert parts.is_large(item, run) == large


def test_there_are_never_more_parts_than_a_key_has_room_for(tmp_path):
    run, [item] = planned(tmp_path, archive(tmp_path, 400), 1)
    found = split_input(item, run)
    assert 100 < len(found) <= parts.MAX_PARTS
    assert len({part.key for part in found}) == len(found)


# --- runs ---------------------------------------------------------------------------------------


def rows(output: Path, table: str) -> list[dict]:
    found = ds.dataset(output / table).to_table().to_pylist()
    return sorted(found, key=lambda row: row["id"])


def jsonl(folder: Path) -> str:
    path = folder / "b.jsonl"
    lines = [json.dumps({"text": f"line {n} " * 9, "url": f"http://b.test/{n}"}) for n in range(60)]
    path.write_text("\n".join(lines))
    return str(path)


@pytest.mark.parametrize("make", [archive, jsonl])
def test_parts_change_nothing_but_the_names_of_files(tmp_path, make):
    path = make(tmp_path)
    whole, cut, alone = (tmp_path / name for name in ("whole", "cut", "alone"))
    options = ["curate", "--input", path, "--recipe"]
    small = small_recipe(tmp_path, 900)
    assert main([*options, small_recipe(tmp_path, 1 << 20), "--output", str(whole)]) == 0
    assert main([*options, small, "--output", str(cut), "--workers", "2"]) == 0
    assert main([*options, small, "--output", str(alone), "--runner", "FnApiRunner"]) == 0
    assert len(list((whole / "documents").iterdir())) == 1
    assert len(list((cut / "documents").iterdir())) > 2
    for table in ("documents", "rejected", "decisions", "dead"):
        assert rows(cut, table) == rows(whole, table)
    assert digests(cut) == digests(alone)
    before, after = (json.loads((run / "manifest.json").read_text()) for run in (whole, cut))
    assert before["total"] == after["total"]
    assert {entry["sha256"] for entry in after["inputs"]} == {before["inputs"][0]["sha256"]}
