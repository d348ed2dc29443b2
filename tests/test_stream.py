"""On-the-fly tokenizing: thresholds, nothing else left out, the same again from any state."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from tokenizers_here import small_tokenizer

from pipelines.cli import main
from tokenizer.reader import StateError
from tokenizer.stream import TextStream, plain_length
from tokenizer.texts import TextFileError, read_texts

TEXTS = [f"Text number {n}: " + "some words and more of them, " * (n % 7 * 6) for n in range(40)]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[str]:
    """The texts in four files of four kinds."""
    folder = tmp_path_factory.mktemp("texts")
    rows = ["".join(json.dumps({"text": t}) + "\n" for t in TEXTS[n::4]).encode() for n in range(3)]
    (folder / "a.jsonl").write_bytes(rows[0])
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(rows[1]))
    (folder / "c.jsonl.zst").write_bytes(zstandard.compress(rows[2]))
    pq.write_table(pa.table({"text": TEXTS[3::4]}), folder / "d.parquet", row_group_size=3)
    return sorted(map(str, folder.iterdir()))


def stream(files, **options) -> TextStream:
    return TextStream(files, small_tokenizer(), **{"length": 64, **options})


def documents_in(batches) -> list[str]:
    """The texts of a stream of windows, put together again."""
    flat = np.concatenate([b["tokens"][b["segments"] > 0] for b in batches])
    ends = np.flatnonzero(flat == 1)
    assert ends[-1] == len(flat) - 1
    return [small_tokenizer().decode(part[:-1]) for part in np.split(flat, ends[:-1] + 1)]


# --- what passes --------------------------------------------------------------------------------


def test_without_thresholds_every_text_comes_back(files):
    reader = stream(files, min_characters=0, min_tokens=0, batch=3)
    assert sorted(documents_in(reader)) == sorted(TEXTS)
    costs = reader.costs
    assert (costs.documents, costs.short_documents, costs.few_documents) == (40, 0, 0)
    assert costs.characters == sum(map(len, TEXTS))
    assert (costs.tokens + costs.padding) % 64 == 0


def test_a_text_is_left_out_just_below_a_threshold(tmp_path):
    path = tmp_path / "t.jsonl"
    text = "word " * 39 + "wor, ."
    assert plain_length(text) == 199
    path.write_text(json.dumps({"text": text}) + "\n" + json.dumps({"text": text + "d"}))
    reader = stream([str(path)], min_tokens=0)
    assert documents_in(reader) == [text + "d"]
    assert (reader.costs.short_documents, reader.costs.short_characters) == (1, len(text))

    tokens = len(small_tokenizer().encode(text)) + 1
    assert len(documents_in(stream([str(path)], min_characters=0, min_tokens=tokens))) == 2
    reader = stream([str(path)], min_characters=0, min_tokens=tokens + 2)
    assert list(reader) == []
    assert reader.costs.few_documents == 2


def test_the_measure_of_characters_is_slimpajama_s():
    assert plain_length("A, b...\n\n c!") == len("a b c")


def test_costs_are_told(files):
    reader = stream(files)
    for _ in reader:
        pass
    lines = reader.costs.lines()
    assert lines[1].split()[:3] == ["read", "40", "100.0%"]
    assert reader.costs.short_documents > 0
    assert reader.costs.few_documents > 0
    assert str(reader.costs.tokens) in lines[-1]


# --- windows ------------------------------------------------------------------------------------


def test_segments_and_positions(files):
    for batch in stream(files, batch=2, min_characters=0, min_tokens=0):
        for tokens, segments, positions in zip(*batch.values(), strict=True):
            filled = int((segments > 0).sum())
            assert (segments[filled:] == 0).all()
            assert (tokens[filled:] == 0).all()
            steps = np.diff(segments[:filled])
            assert positions[0] == 0
            assert (positions[1:filled][steps == 1] == 0).all()
            assert (np.diff(positions[:filled])[steps == 0] == 1).all()
            # A segment ends with its eos, or with the window.
            assert (tokens[: filled - 1][steps == 1] == 1).all()


def test_hosts_read_files_of_their_own(files):
    apart = [documents_in(stream(files, min_characters=0, min_tokens=0, host=h, hosts=2))
             for h in range(2)]  # fmt: skip
    assert sorted(apart[0] + apart[1]) == sorted(TEXTS)


def test_the_seed_shuffles_the_files(files):
    firsts = {
        documents_in(stream(files, min_characters=0, min_tokens=0, seed=s))[0] for s in range(12)
    }
    assert len(firsts) >= 3
    assert documents_in(stream(files, seed=3)) == documents_in(stream(files[::-1], seed=3))


@given(st.integers(0, 40), st.integers(1, 4))
def test_a_stream_goes_on_as_it_would_have(files, stop, batch):
    def flat(batches):
        return [row.tobytes() for b in batches for row in np.stack(list(b.values()), 1)]

    options = {"batch": batch, "min_tokens": 30}
    whole = flat(stream(files, **options))
    first = stream(files, **options)
    begun = []
    iterator = iter(first)
    for _ in range(stop):
        found = next(iterator, None)
        if found is None:
            break
        begun.append(found)
    again = stream(files, **options)
    again.set_state(json.loads(json.dumps(first.get_state())))
    assert [*flat(begun), *flat(again)] == whole


# --- command ------------------------------------------------------------------------------------


def test_the_command_tells_what_the_thresholds_cost(files, tmp_path, capsys):
    model = tmp_path / "t.model"
    model.write_bytes(small_tokenizer().content)
    words = ["stream", *files, "--tokenizer", str(model), "--sequence-length", "64"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "too few characters" in told
    assert "windows, " in told
    assert main([*words, "--text-field", "body"]) == 2
    assert "cidermill: " in capsys.readouterr().err
    assert main(["stream", "/none*", "--tokenizer", str(model)]) == 2
    assert "/none* matches no file" in capsys.readouterr().err


# --- mistakes -----------------------------------------------------------------------------------


def test_a_state_of_another_stream_is_refused(files):
    reader = stream(files)
    state = reader.get_state()
    for other in (stream(files, length=32), stream(files, seed=1), stream(files, min_tokens=9)):
        with pytest.raises(StateError, match="another stream"):
            other.set_state(state)
    for change in ({"version": 0}, {"row": -1}, {"turn": "x"}):
        with pytest.raises(StateError):
            reader.set_state({**state, **change})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hosts": 5}, "host 0 of 5 with 4 files; each needs one"),
        ({"length": 1}, "windows of 1 in batches of 1"),
        ({"batch": 0}, "in batches of 0"),
    ],
)
def test_options_out_of_bounds(files, options, message):
    with pytest.raises(ValueError, match=message):
        stream(files, **options)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\nno json\n', r"a.jsonl:2: no JSON"),
        ("a.jsonl", b'[1]\n', r"a.jsonl:1: no object with the field 'text'"),
        ("a.jsonl", b'{"body": "x"}\n', r"no object with the field 'text'"),
        ("a.jsonl", b'{"text": 3}\n', r"a.jsonl:1: 'text' is int and no text"),
        ("a.jsonl.gz", b"no gzip", r"a.jsonl.gz: "),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 99, mtime=0)[:-9], r"a.jsonl.gz: "),
        ("a.jsonl.zst", b"no zstd", r"a.jsonl.zst: "),
        ("a.parquet", b"no parquet", r"a.parquet: "),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_told(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TextFileError, match=message):
        list(read_texts(str(path), "text"))


def test_a_column_that_is_not_there_names_those_that_are(files):
    with pytest.raises(TextFileError, match="no column 'content', but text"):
        list(read_texts(files[3], "content"))


@pytest.mark.parametrize("skip", [0, 1, 3, 4, 9, 10, 99])
def test_rows_can_be_skipped(files, skip):
    for number, path in enumerate(files):
        assert list(read_texts(path, "text", skip)) == TEXTS[number::4][skip:]


def test_a_row_without_text_is_an_empty_one(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": null}\n{"text": "x"}\n')
    assert list(read_texts(str(path), "text")) == ["", "x"]
