"""``cidermill score``: a row for each document of any kind of file, errors in one line."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from models_here import a_model, write_model
from test_adapters import drawn

from pipelines import command_score
from pipelines.cli import main
from runtime.adapter_files import write_adapter
from runtime.bits import measure
from runtime.model import Model

TEXTS = ["The orchard stands on a hill.\n\nThe river is below it, and old trees.", "", "été " * 9]


@pytest.fixture
def corpus(tmp_path):
    """The same texts as JSONL and Parquet, the first as plain text too."""
    rows = [{"text": text, "id": n, "url": f"http://a.test/{n}"} for n, text in enumerate(TEXTS)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.table({"body": TEXTS, "url": ["u", None, "w"]}), tmp_path / "b.parquet")
    with gzip.open(tmp_path / "c.txt.gz", "wt", encoding="utf-8") as handle:
        handle.write(TEXTS[0])
    return tmp_path


def score(*words: object) -> int:
    return main(["score", "--model", a_model(), *map(str, words)])


def rows_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def expected() -> list[dict]:
    model = Model.load(a_model(), threads=1)
    return [
        {"bits_per_byte": m.whole.per_byte, "bytes": m.whole.bytes, "tokens": m.tokens}
        for m in measure(model, TEXTS)
    ]


def test_a_row_for_each_document_with_what_names_it(corpus, capsys, monkeypatch):
    monkeypatch.setattr(command_score, "GROUP", 2)
    assert score(corpus / "a.jsonl", "--threads", 2) == 0
    assert rows_of(capsys.readouterr().out) == [
        {"input": "a.jsonl", "row": n, "id": n, "url": f"http://a.test/{n}", **found}
        for n, found in enumerate(expected())
    ]


def test_parquet_with_another_field_into_a_file(corpus):
    assert score(corpus / "b.parquet", "--text-field", "body", "--to", corpus / "out.jsonl") == 0
    found = rows_of((corpus / "out.jsonl").read_text())
    urls = [{"url": "u"}, {}, {"url": "w"}]
    assert found == [
        {"input": "b.parquet", "row": n, **url, **row}
        for n, (url, row) in enumerate(zip(urls, expected(), strict=True))
    ]


def test_plain_text_by_paragraph(corpus, capsys):
    assert score(corpus / "*.txt.gz", "--paragraphs") == 0
    (row,) = rows_of(capsys.readouterr().out)
    paragraphs = row.pop("paragraphs")
    assert row == {"input": "c.txt.gz", "row": 0, **expected()[0]}
    assert [(p["start"], p["end"]) for p in paragraphs] == [(0, 31), (31, len(TEXTS[0]))]
    assert sum(p["bytes"] for p in paragraphs) == row["bytes"]


def test_the_beginning_alone(corpus, capsys):
    assert score(corpus / "c.txt.gz", "--most-bytes", 29) == 0
    (row,) = rows_of(capsys.readouterr().out)
    (found,) = measure(Model.load(a_model(), threads=1), [TEXTS[0][:29]])
    assert (row["bits_per_byte"], row["bytes"]) == (found.whole.per_byte, found.whole.bytes)


def a_run(folder, table):
    """A folder of a run whose only table of documents is a copy of this one; its path."""
    (folder / "documents").mkdir(parents=True)
    path = folder / "documents" / "web-01.parquet"
    path.write_bytes(table.read_bytes())
    facts = {"rows": 3, "bytes": path.stat().st_size, "sha256": ""}
    entry = {"source": "web", "key": "01", "files": {"documents": facts}}
    (folder / "manifest.json").write_text(json.dumps({"inputs": [entry]}))
    # What the manifest does not tell of is none of its documents.
    (folder / "documents" / "web-02.parquet").write_bytes(b"")
    return path


def test_the_folder_of_a_run_stands_for_its_documents(corpus, capsys):
    path = a_run(corpus / "run", corpus / "b.parquet")
    assert score(corpus / "run", "--text-field", "body") == 0
    found = capsys.readouterr().out
    assert score(path, "--text-field", "body") == 0
    assert capsys.readouterr().out == found
    assert len(rows_of(found)) == len(TEXTS)


def test_another_folder_is_refused_with_what_to_give(corpus, capsys):
    (corpus / "documents").mkdir()
    assert score(corpus) == 2
    said = capsys.readouterr().err
    assert f"no finished run of `cidermill curate`; give its files, such as {corpus}/doc" in said
    assert said.count("\n") == 1


@pytest.fixture
def fragile(corpus, monkeypatch):
    """The corpus, a model of its own and an adapter's folder; other names of some of them."""
    shutil.copyfile(a_model(), corpus / "m.cider")
    (corpus / "m.recovery").mkdir()
    (corpus / "m.recovery" / "adapter_config.json").write_text("{}")
    (corpus / "symbolic.jsonl").symlink_to("a.jsonl")
    (corpus / "hard").hardlink_to(corpus / "m.cider")
    os.mkfifo(corpus / "pipe")
    monkeypatch.chdir(corpus)
    return corpus


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("a.jsonl", "a.jsonl is read and would be lost; name another --to"),
        ("symbolic.jsonl", "symbolic.jsonl is a.jsonl, which is read and would be lost"),
        ("{}/a.jsonl", "/a.jsonl is a.jsonl, which is read and"),
        ("m.cider", "m.cider is read and"),
        ("hard", "hard is m.cider, which is read"),
        ("m.recovery/adapter_config.json", "adapter_config.json is read and"),
        ("b.parquet", "b.parquet is there, is no file of scores and would be lost"),
        ("pipe", "pipe is there, is no file of scores and would be lost; name another --to"),
        ("{}", "holds m.cider, which is read and would be lost"),
        ("no/out.jsonl", "and there is no folder"),
    ],
)
def test_what_is_read_is_not_written(fragile, capsys, monkeypatch, target, message):
    # Nothing is read before: not even the model is opened.
    monkeypatch.delattr(command_score.Model, "load")
    before = {path: path.read_bytes() for path in fragile.iterdir() if path.is_file()}
    words = ["a.jsonl", "--model", "m.cider", "--adapter", "m.recovery"]
    assert score(*words, "--to", target.format(fragile)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert {path: path.read_bytes() for path in fragile.iterdir() if path.is_file()} == before


def test_a_glob_that_matches_the_target_leaves_it_out(fragile, capsys):
    words = [f"{fragile}/*.jsonl", "--model", "m.cider", "--to", "scores.jsonl"]
    assert score(*words) == 0
    found = (fragile / "scores.jsonl").read_bytes()
    assert score(*words) == 0
    assert (fragile / "scores.jsonl").read_bytes() == found
    # Named, it is what is to be read.
    assert score("scores.jsonl", *words[1:]) == 2
    assert "scores.jsonl is read and would be lost" in capsys.readouterr().err


def test_two_runs_into_one_file_do_not_mix(corpus, monkeypatch):
    out, measured = corpus / "out.jsonl", []

    def meanwhile(*words, **more):
        if not measured:
            measured.append(True)
            assert score(corpus / "c.txt.gz", "--to", out) == 0
            assert len(rows_of(out.read_text())) == 1
        return measure(*words, **more)

    monkeypatch.setattr(command_score, "measure", meanwhile)
    assert score(corpus / "a.jsonl", "--to", out) == 0
    assert [row["input"] for row in rows_of(out.read_text())] == ["a.jsonl"] * len(TEXTS)


def cut_short(
    monkeypatch, after: int, error: type[BaseException] | BaseException
) -> list[list[str]]:
    """Scoring is ended by an error behind some groups of two; gives the texts that were scored."""
    asked: list[list[str]] = []

    def measured(model, texts, **more):
        if len(asked) == after:
            raise error
        asked.append(texts)
        return measure(model, texts, **more)

    monkeypatch.setattr(command_score, "GROUP", 2)
    monkeypatch.setattr(command_score, "measure", measured)
    return asked


@pytest.mark.parametrize("kind", ["interrupted", "torn", "zeros"])
def test_the_same_command_goes_on_where_it_was_stopped(corpus, capsys, monkeypatch, kind):
    words = [corpus / "a.jsonl", corpus / "b.parquet", "--text-field", "text"]
    pq.write_table(pa.table({"text": TEXTS[::-1]}), corpus / "b.parquet")
    assert score(*words, "--to", corpus / "whole.jsonl") == 0
    out = corpus / "out.jsonl"
    cut_short(monkeypatch, 3, KeyboardInterrupt)
    assert score(*words, "--to", out) == 130
    assert capsys.readouterr().err == (
        "cidermill: interrupted; the same command goes on from here\n"
    )
    assert not out.exists()
    (part,) = corpus.glob(".out.jsonl.*.part")
    done = 5  # two groups of two, and a file's last
    if kind != "interrupted":
        content = part.read_bytes()
        last = len(content.splitlines(keepends=True)[-1])
        part.write_bytes(content[:-9] if kind == "torn" else content[:-last] + bytes(last))
        done = 4
    asked = cut_short(monkeypatch, 99, KeyboardInterrupt)
    assert score(*words, "--to", out) == 0
    assert f"cidermill: going on after {done} documents\n" in capsys.readouterr().err
    assert sum(map(len, asked)) == 2 * len(TEXTS) - done
    assert out.read_bytes() == (corpus / "whole.jsonl").read_bytes()
    assert not list(corpus.glob(".*"))


def an_adapter(folder) -> str:
    own = drawn(1)
    write_adapter(str(folder), own.factors, own.base)
    return str(folder)


@pytest.mark.parametrize("change", ["option", "input", "model", "adapter", "bits"])
def test_what_was_stopped_with_other_settings_is_not_gone_on_with(
    corpus, capsys, monkeypatch, change
):
    out = corpus / "out.jsonl"
    first = ["--adapter", an_adapter(corpus / "first")] if change == "bits" else []
    cut_short(monkeypatch, 1, KeyboardInterrupt)
    assert score(corpus / "a.jsonl", *first, "--to", out) == 130
    more = {
        "option": lambda: ["--paragraphs"], "input": list,
        "model": lambda: ["--model", write_model(str(corpus / "other.cider"), seed=5)],
        "adapter": lambda: ["--adapter", an_adapter(corpus / "adapter")],
        "bits": lambda: [*first, "--adapter-bits", "4"],
    }[change]()  # fmt: skip
    if change == "input":
        (corpus / "a.jsonl").write_text('{"text": "longer than before"}\n' * 9)
    asked = cut_short(monkeypatch, 99, KeyboardInterrupt)
    assert score(corpus / "a.jsonl", *more, "--to", out) == 0
    assert sum(map(len, asked)) == len(rows_of(out.read_text()))
    assert "of other inputs or settings; it is begun anew" in capsys.readouterr().err
    assert not list(corpus.glob(".*"))


def test_a_full_disk_leaves_what_is_done_and_an_error_of_ours_nothing(corpus, capsys, monkeypatch):
    out = corpus / "out.jsonl"
    cut_short(monkeypatch, 1, OSError(errno.ENOSPC, "no space"))
    assert score(corpus / "a.jsonl", "--to", out) == 1
    assert str(out) in capsys.readouterr().err
    assert list(corpus.glob(".out.jsonl.*"))
    cut_short(monkeypatch, 99, ValueError("odd"))
    assert score(corpus / "a.jsonl", "--to", out) == 0
    cut_short(monkeypatch, 1, MemoryError())
    assert score(corpus / "a.jsonl", "--to", out) == 1
    assert list(corpus.glob(".out.jsonl.*"))
    cut_short(monkeypatch, 0, ValueError("odd"))
    assert score(corpus / "a.jsonl", "--to", out) == 2
    assert not list(corpus.glob(".*"))


def test_two_of_the_same_runs_are_refused(corpus, capsys, monkeypatch):
    out = corpus / "out.jsonl"

    def meanwhile(*words, **more):
        monkeypatch.setattr(command_score, "measure", measure)
        assert score(corpus / "a.jsonl", "--to", out) == 2
        return measure(*words, **more)

    monkeypatch.setattr(command_score, "measure", meanwhile)
    assert score(corpus / "a.jsonl", "--to", out) == 0
    assert "another run is writing" in capsys.readouterr().err
    assert len(rows_of(out.read_text())) == len(TEXTS)


def test_rows_on_standard_output_cannot_be_gone_on_with(corpus, capsys, monkeypatch):
    cut_short(monkeypatch, 1, KeyboardInterrupt)
    assert score(corpus / "a.jsonl") == 130
    assert capsys.readouterr().err == "cidermill: interrupted\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.jsonl"], "none.jsonl matches no file"),
        (["a.jsonl", "--text-field", "body"], "a.jsonl:1: no object with the field 'body'"),
        (["nan.jsonl"], "nan.jsonl, row 1: id holds a number that is not finite"),
        (["b.parquet"], "b.parquet: no column 'text', but body, url"),
        (["bad.txt"], "bad.txt: no UTF-8 at byte 1"),
        (["cut.txt.gz"], "cut.txt.gz: "),
        (["a.jsonl", "--window", "1"], "--window is 1; it must be at least 2"),
        (["a.jsonl", "--most-bytes", "0"], "--most-bytes is 0; it must be at least 1"),
        (["a.jsonl", "--threads", "0"], "0 threads; there can be 1 to"),
        (["a.jsonl", "--model", "a.jsonl"], "a.jsonl is"),
        (["a.jsonl", "--model", "none.cider"], "none.cider"),
    ],
)
def test_errors_are_one_line_and_leave_no_file(corpus, capsys, monkeypatch, words, message):
    monkeypatch.chdir(corpus)
    (corpus / "nan.jsonl").write_text('{"text": "x"}\n{"text": "x", "id": NaN}\n')
    (corpus / "bad.txt").write_bytes(b"a\xff")
    (corpus / "cut.txt.gz").write_bytes((corpus / "c.txt.gz").read_bytes()[:-9])
    assert score(*words, "--to", "out.jsonl") in (1, 2)
    said = capsys.readouterr().err
    assert message in said
    assert said.strip().count("\n") == 0
    assert not list(corpus.glob("*out.jsonl*"))
