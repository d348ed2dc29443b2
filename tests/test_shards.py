"""Shards: what was packed comes back, and what is damaged is told before it is used."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shards_here import documents_of, rows_of, write_shards

from tokenizer.packing import METHODS, pack
from tokenizer.shard_set import ShardError, ShardSet
from tokenizer.shards import build, make_index

ROOT = Path(__file__).resolve().parent.parent
TWO = {"web-00000": [5, 40, 16, 3, 1], "code-00000": [9, 7, 9]}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.sampled_from(METHODS))
def test_documents_come_back(tmp_path, lengths, method):
    written = write_shards(tmp_path, {"web-00000": lengths}, method=method)
    [shard] = ShardSet.open(str(tmp_path)).shards
    found = list(shard.document_tokens())
    assert [f.tolist() for f in found] == [t.tolist() for t in written["web-00000"]]


def test_the_index_counts_what_there_is(tmp_path):
    write_shards(tmp_path, TWO)
    opened = ShardSet.open(str(tmp_path))
    assert opened.length == 16
    assert opened.windows() == {"code": 2, "web": 5}
    totals = opened.index["totals"]
    assert totals["documents"] == 8
    assert totals["tokens"] == 65 + 25
    assert totals["padding"] == 7 * 16 - (65 + 25)
    assert totals["cut_documents"] == 1
    assert [shard.name for shard in opened.shards] == ["code-00000", "web-00000"]
    assert opened.shards[0].documents()["id"].to_pylist() == ["code-0", "code-1", "code-2"]
    opened.verify()


def test_padding_is_behind_the_pieces_and_nowhere_else(tmp_path):
    write_shards(tmp_path, TWO)
    for shard in ShardSet.open(str(tmp_path)).shards:
        for window in range(shard.windows):
            filled = int(shard.window_pieces(window)["length"].sum())
            assert (shard.tokens[window, :filled] != 0).all()
            assert (shard.tokens[window, filled:] == 0).all()


def test_the_same_documents_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_shards(tmp_path / name, TWO)
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_vocabulary_beyond_two_bytes_keeps_its_ids():
    ids = np.array([70_000, 1], "<u4")
    packed = pack(np.array([2]), 4)
    shard = build("a-0", "a", packed, [ids], rows_of("a", [ids]), pad=0, dtype=np.dtype("<u4"))
    assert shard.tokens.tolist() == [[70_000, 1, 0, 0]]


def test_rows_that_do_not_belong_to_the_tokens_are_refused():
    tokens = documents_of("a", [3, 4])
    packed = pack(np.array([3, 4]), 8)
    for rows in (rows_of("a", tokens[:1]), rows_of("a", tokens[::-1])):
        with pytest.raises(ValueError, match="rows"):
            build("a-0", "a", packed, tokens, rows, pad=0, dtype=np.dtype("<u2"))


def test_two_shards_of_one_name_are_refused():
    entry = {"name": "a"} | dict.fromkeys(
        ("windows", "documents", "tokens", "bytes", "padding", "cut_documents"), 1
    )
    with pytest.raises(ValueError, match="two shards are called a"):
        make_index([entry, entry], length=8, dtype=np.dtype("<u2"), tokenizer={}, packing={})


# --- damage -------------------------------------------------------------------------------------


def change_index(folder: Path, change) -> None:
    path = folder / "index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: i.update(format="x"), "not the index of token shards"),
        (lambda i: i.update(version=2), "of version 2; this code reads version 1"),
        (lambda i: i.update(dtype="|O"), "the type '|O' is not <u2 or <u4"),
        (lambda i: i.update(sequence_length=1), "a sequence length of 1"),
        (lambda i: i.update(sequence_length="9"), "a sequence length of '9'"),
        (lambda i: i.update(sequence_length=17), "not uint16 of (2, 17)"),
        (lambda i: i.update(shards={}), "no list of shards"),
        (lambda i: i["shards"][0].update(windows=3), "not uint16 of (3, 16)"),
        (lambda i: i["shards"][0].update(windows=-1), "-1 windows"),
        (lambda i: i["shards"][0].update(name="../web"), "a shard of the name '../web'"),
        (lambda i: i["shards"][0].update(name="gone"), "is damaged: KeyError"),
        (lambda i: i["shards"][0].pop("files"), "is damaged: KeyError"),
    ],
)
def test_a_damaged_index_is_told(tmp_path, change, message):
    write_shards(tmp_path, TWO)
    change_index(tmp_path, change)
    with pytest.raises(ShardError, match=re.escape(message)):
        ShardSet.open(str(tmp_path))


def test_an_index_that_is_no_json_is_told(tmp_path):
    (tmp_path / "index.json").write_bytes(b"\xff{")
    with pytest.raises(ShardError, match="it is no JSON"):
        ShardSet.open(str(tmp_path))


def test_a_folder_without_shards_says_how_to_make_some(tmp_path):
    with pytest.raises(
        ShardError, match="holds no shards: there is no index.json; run `cidermill pack`"
    ):
        ShardSet.open(str(tmp_path))


@pytest.mark.parametrize("ending", ["tokens.npy", "windows.npy", "pieces.npy", "documents.parquet"])
def test_a_file_that_is_missing_or_cut_is_told(tmp_path, ending):
    write_shards(tmp_path, TWO)
    path = tmp_path / f"web-00000.{ending}"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(
        ShardError, match=f"web-00000.{ending} has {len(content) - 1} bytes, but the"
    ):
        ShardSet.open(str(tmp_path))
    path.unlink()
    with pytest.raises(ShardError, match=f"web-00000.{ending} is missing"):
        ShardSet.open(str(tmp_path))


def test_a_changed_byte_is_found_by_verify(tmp_path):
    write_shards(tmp_path, TWO)
    path = tmp_path / "code-00000.tokens.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ShardError, match="code-00000.tokens.npy is damaged"):
        ShardSet.open(str(tmp_path)).verify()


def test_arrays_of_objects_are_never_loaded(tmp_path):
    write_shards(tmp_path, TWO)
    path = tmp_path / "web-00000.tokens.npy"
    header = path.read_bytes().replace(b"'<u2'", b"'|O' ")
    path.write_bytes(header)
    with pytest.raises(ShardError, match="holds object"):
        ShardSet.open(str(tmp_path))


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_any_damage_to_an_array_is_an_error_or_a_value(tmp_path, data):
    write_shards(tmp_path, {"web-00000": [5, 40, 16]})
    ending = data.draw(st.sampled_from(["tokens.npy", "windows.npy", "pieces.npy"]))
    path = tmp_path / f"web-00000.{ending}"
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        [shard] = ShardSet.open(str(tmp_path)).shards
        for window in range(shard.windows):
            shard.window_pieces(window)
    except ShardError:
        pass


def test_the_example_of_the_documentation_reads_the_format(tmp_path, monkeypatch):
    written = write_shards(tmp_path / "shards", {"web-00000": [5, 40]})
    page = (ROOT / "docs" / "shards.md").read_text("utf-8")
    [example] = re.findall(r"```python\n(.*?)```", page, re.S)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(example, names)
    seen = {(d, tuple(ids)) for d, _, ids in names["found"]}
    assert (0, tuple(written["web-00000"][0].tolist())) in seen
    assert isinstance(rows_of("a", []), pa.Table)
