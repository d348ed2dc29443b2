"""The command line as a person uses it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pyarrow.dataset as ds
import pytest
from conftest import ROOT

from pipelines.cli import main, parser
from pipelines.reference import reference_page

CRAWL = str(ROOT / "samples" / "crawl.warc.gz")


def lines(capsys, *arguments):
    assert main(list(arguments)) == 0
    return capsys.readouterr().out.splitlines()


def error(capsys, *arguments):
    code = main(list(arguments))
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err.count("\n") == 1, out.err
    return code, out.err.strip()


# --- why ----------------------------------------------------------------------------------------


def test_why_tells_rule_value_and_bound(capsys, samples_run):
    story = lines(capsys, "why", "http://village.example.org/lorem", "-o", str(samples_run))
    assert story[0] == "http://village.example.org/lorem"
    assert "  DROPPED  by c4.lorem_ipsum (stage c4)" in story
    assert "    c4.lorem_ipsum: 1, asked <= 0  [removed it]" in story


def test_why_names_what_a_duplicate_is_of(capsys, samples_run):
    url = "http://borrowed.example.com/posts/maps"
    story = "\n".join(lines(capsys, "why", url, "-o", str(samples_run)))
    assert "by dedup.jaccard" in story
    assert "that is http://orchard.example.org/articles/maps" in story


def test_why_lists_edits_without_what_they_removed(capsys, samples_run):
    url = "village.example.org/pii-email"
    story = "\n".join(lines(capsys, "why", url, "-o", str(samples_run)))
    assert "KEPT" in story
    assert "replaced by <EMAIL_1>" in story
    assert "@" not in story


def test_why_by_id_and_for_dead_letters(capsys, samples_run):
    dead = ds.dataset(samples_run / "dead").to_table().to_pylist()
    cut = next(row for row in dead if row["error"] == "TruncatedMember")
    story = "\n".join(lines(capsys, "why", cut["id"], "-o", str(samples_run)))
    assert "DEAD     at stage read: TruncatedMember forum.warc.gz: record at offset" in story


def test_why_in_a_run_without_rejected_documents(capsys, tmp_path):
    recipe = tmp_path / "lean.yaml"
    recipe.write_text("name: lean\nkeep_rejected: false\nstages: [read, extract]\n")
    out = str(tmp_path / "out")
    (tmp_path / "a.jsonl").write_text('{"text": "a", "url": "http://a.test/"}\n{"text": 1}\n')
    for kept in ("web", str(recipe)):
        lines(capsys, "curate", "-i", str(tmp_path / "a.jsonl"), "-o", out, "-r", kept, "-w", "1")
    assert "  KEPT" in lines(capsys, "why", "http://a.test/", "-o", out)


def test_a_runner_that_cannot_be_reached_is_one_line(capsys, tmp_path):
    options = ["--runner=PortableRunner", "--job_endpoint=localhost:1", "--job_server_timeout=1"]
    code = main(["curate", "-i", CRAWL, "-o", str(tmp_path / "out"), *options])
    text = capsys.readouterr().err.splitlines()[-1]
    assert code == 1
    assert text.startswith("cidermill: PortableRunner failed: ")


def test_why_not_found_gives_a_hint(capsys, samples_run, tmp_path):
    code, text = error(capsys, "why", "articles/maps", "-o", str(samples_run))
    assert code == 2
    assert "did you mean http://orchard.example.org/articles/maps?" in text
    code, text = error(capsys, "why", "x", "-o", str(tmp_path))
    assert code == 2
    assert "holds no run" in text


# --- mistakes are one line ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["curate", "-i", "none*.warc"], 2, "none*.warc matches no file; known endings: .warc"),
        (["curate"], 2, "nothing to read: give --input, or a recipe with sources"),
        (["curate", "-i", CRAWL, "-r", "wob"], 2, "no recipe 'wob'; shipped: c4, fineweb, math"),
        (["curate", "-i", CRAWL, "--sample", "2"], 2, "--sample is 2.0; it must be above 0"),
        (["curate", "-i", CRAWL, "--limit", "0"], 2, "--limit is 0; it must be at least 1"),
        (["curate", "-i", CRAWL, "--workers", "0"], 2, "--workers is 0; it must be at least 1"),
        (["curate", "-i", CRAWL, "--wrokers", "2"], 2, "unknown option --wrokers"),
        (["curate", "-i", CRAWL, "--benchmarks", "nowhere"], 2, "nowhere, which does not exist"),
        (
            ["curate", "-i", CRAWL, "--runner", "NoRunner"],
            2,
            "Unexpected pipeline runner: NoRunner",
        ),
        (["report", "nowhere"], 2, "nowhere holds no finished run"),
        (["benchmarks", "build", "none.jsonl", "-o", "x"], 2, "none.jsonl matches no file"),
    ],
)
def test_mistakes(arguments, code, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, text = error(capsys, *arguments)
    assert found == code
    assert text.startswith("cidermill: ")
    assert message in text
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_into_the_same_folder_is_refused(capsys, tmp_path):
    import fcntl

    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        elsewhere = ["--work-dir", str(tmp_path / "elsewhere")]
        code, text = error(capsys, "curate", "-i", CRAWL, "-o", str(tmp_path), *elsewhere)
    finally:
        os.close(handle)
    assert code == 2
    assert f"another run is writing to {tmp_path}; wait for it" in text


def test_outputs_are_no_inputs_of_the_next_run(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    out = str(tmp_path / "out")
    for _ in range(2):
        lines(capsys, "curate", "-i", str(tmp_path), "-o", out, "-w", "1")
        manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
        assert [entry["name"] for entry in manifest["inputs"]] == ["a.jsonl"]


def test_an_input_in_the_output_is_refused_and_not_left_out(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "b.jsonl").write_text('{"text": "b"}\n')
    code, text = error(
        capsys, "curate", "-i", str(tmp_path / "a.jsonl"), "-i", str(tmp_path / "out" / "b.jsonl"),
        "-o", str(tmp_path / "out"),
    )  # fmt: skip
    assert code == 2
    assert "b.jsonl names only files in the output or work directory" in text


def test_source_options_are_checked_before_anything_is_read(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "name: mine\nstages: [read, extract]\n"
        f"sources:\n  a: {{input: {tmp_path}/a.jsonl, options: {{text_feild: body}}}}\n"
    )
    code, text = error(capsys, "curate", "-r", str(recipe), "-o", str(tmp_path / "out"))
    assert code == 2
    assert "source 'a': unknown option 'text_feild' for jsonl input; it takes" in text


def test_benchmarks_need_a_stage_that_uses_them(tmp_path, capsys):
    code, text = error(capsys, "curate", "-i", CRAWL, "-r", "c4", "--benchmarks", "demo")
    assert code == 2
    assert "the recipe 'c4' has no stage 'decontamination'" in text


def test_a_mistake_in_a_recipe_shows_its_line(capsys, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: mine\nstages:\n  - read\n  - extrakt\n")
    code, text = error(capsys, "curate", "-i", CRAWL, "-r", str(recipe))
    assert code == 2
    assert f"{recipe}:4: unknown stage 'extrakt'; known: read, url, extract" in text


# --- sources, samples, limits -------------------------------------------------------------------


def test_every_kind_of_source_in_one_run(tmp_path, capsys):
    prose = (ROOT / "samples" / "pages" / "english.txt").read_text().split("\n# ")
    rows = [{"text": text, "url": f"http://j.test/{n}"} for n, text in enumerate(prose[:4])]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\nnot json\n")
    (tmp_path / "site").mkdir()
    for number, text in enumerate(prose[4:7]):
        body = "".join(f"<p>{line}</p>" for line in text.splitlines())
        (tmp_path / "site" / f"{number}.html").write_text(f"<html><body>{body}</body></html>")
    table = ds.dataset(_parquet(tmp_path, prose[7:9])).to_table()
    assert table.num_rows == 2
    recipe = tmp_path / "mine.yaml"
    web = (ROOT / "recipes" / "web.yaml").read_text()
    recipe.write_text(
        web
        + f"""
sources:
  crawl: {{input: "{CRAWL}"}}
  notes:
    input: {tmp_path}/a.jsonl
    stages: [read, extract, language]
  site: {{input: {tmp_path}/site}}
  tables: {{input: {tmp_path}/b.parquet, options: {{text_field: body}}}}
"""
    )
    out = tmp_path / "out"
    lines(capsys, "curate", "-r", str(recipe), "-o", str(out), "-w", "1")
    manifest = json.loads((out / "manifest.json").read_text())
    sources = manifest["total"]["sources"]
    # Copies of articles that the crawl has as well stay with the earlier source; the notes' own
    # stages have no duplicates among them, so all of its good lines are kept.
    assert sources["notes"] == {"read": 5, "kept": 4, "dead": 1}
    assert sources["site"]["read"] == 3
    assert sources["tables"]["read"] == 2
    names = {path.name.partition("-")[0] for path in (out / "documents").iterdir()}
    assert names == {"crawl", "notes", "site", "tables"}


def _parquet(folder, texts):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "b.parquet"
    pq.write_table(pa.table({"body": texts, "url": ["http://p.test/1", "http://p.test/2"]}), path)
    return path


def test_limit_and_sample_are_exact_and_seeded(tmp_path, capsys):
    out = tmp_path / "limit"
    lines(capsys, "curate", "-i", CRAWL, "-o", str(out), "--limit", "7", "-w", "1")
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["total"]["counts"]["read"] == 7
    ids = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        out = tmp_path / name
        options = ["--sample", "0.3", "--seed", seed, "-w", "1"]
        lines(capsys, "curate", "-i", CRAWL, "-o", str(out), *options)
        tables = [ds.dataset(out / t).to_table(columns=["id"]) for t in ("documents", "rejected")]
        ids.append({row["id"] for t in tables for row in t.to_pylist()})
    assert ids[0] == ids[1] != ids[2]
    assert 5 < len(ids[0]) < 35


# --- the rest -----------------------------------------------------------------------------------


def test_report_prints_the_funnel_and_writes_the_page(capsys, samples_run, tmp_path):
    shutil.copy(samples_run / "manifest.json", tmp_path)
    printed = lines(capsys, "report", str(tmp_path))
    assert printed[0].startswith("stage")
    assert any(line.startswith("read 94 = kept ") for line in printed)
    assert (tmp_path / "report.html").read_bytes() == (samples_run / "report.html").read_bytes()


def test_recipes_are_listed_explained_and_printed(capsys):
    assert [line.split()[0] for line in lines(capsys, "recipes")[:4]] == [
        "c4",
        "fineweb",
        "math",
        "web",
    ]
    told = "\n".join(lines(capsys, "recipes", "fineweb"))
    assert "drop unless gopher.word_count >= 50 and <= 100000" in told
    assert "option mode = precision" in told
    assert "\n".join(lines(capsys, "recipes", "c4", "--yaml")).startswith("name: c4")


def test_the_reference_page_is_that_of_the_code():
    assert (ROOT / "docs" / "reference.md").read_text() == reference_page()


def test_benchmarks_are_built_listed_and_used(capsys, tmp_path):
    items = tmp_path / "items.jsonl"
    text = "The ring is as long as the shortest of its chains, and no shorter chain will do."
    items.write_text(json.dumps({"benchmark": "rings", "id": "1", "text": text}) + "\n")
    index = str(tmp_path / "index")
    built = lines(capsys, "benchmarks", "build", str(items), "-o", index)
    assert built[0].startswith("1 items of 1 benchmarks, ")
    assert lines(capsys, "benchmarks", "list", index) == ["       1  rings"]
    pages = tmp_path / "pages.jsonl"
    prose = (ROOT / "samples" / "pages" / "english.txt").read_text().split("\n# ")
    rows = [{"text": prose[1] + "\n" + text.upper(), "url": "http://a.test/1"}]
    rows += [{"text": prose[2], "url": "http://a.test/2"}]
    pages.write_text("\n".join(map(json.dumps, rows)))
    out = str(tmp_path / "out")
    lines(capsys, "curate", "-i", str(pages), "-o", out, "--benchmarks", index, "-w", "1")
    story = "\n".join(lines(capsys, "why", "http://a.test/1", "-o", out))
    assert "by decontamination.ngrams" in story
    assert "rings 1: the ring is as long" in story
    assert "KEPT" in "\n".join(lines(capsys, "why", "http://a.test/2", "-o", out))


def test_a_bad_benchmark_line_is_named(capsys, tmp_path):
    items = tmp_path / "items.jsonl"
    items.write_text('{"benchmark": "a", "id": 1, "text": "x y z w v"}\n{"id": 2}\n')
    code, text = error(capsys, "benchmarks", "build", str(items), "-o", str(tmp_path / "index"))
    assert code == 2
    assert "items.jsonl:2: needs a JSON object with the fields benchmark, id, text" in text


def test_help_of_every_command():
    for command in ([], ["curate"], ["why"], ["report"], ["recipes"], ["benchmarks", "build"]):
        done = subprocess.run(
            [sys.executable, "-m", "pipelines", *command, "--help"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.startswith("usage: ")
        assert done.stderr == ""


def test_the_list_of_commands_says_what_each_says_of_itself():
    def told(top):
        return [
            (entry.dest, entry.help) for entry in top._subparsers._group_actions[0]._choices_actions
        ]

    assert told(parser("")) == told(parser())
    assert {name for name, _ in told(parser("label"))} == {"evaluate", "export", "label"}


def test_tables_open_in_pandas_like_tools_with_nested_signals(samples_run):
    table = ds.dataset(samples_run / "documents").to_table()
    row = table.to_pylist()[0]
    assert row["signals"]["gopher"]["word_count"] >= 50
    schemas = {
        name: {str(ds.dataset(path).schema) for path in (samples_run / name).iterdir()}
        for name in ("documents", "rejected", "decisions", "dead")
    }
    assert all(len(found) == 1 for found in schemas.values())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "out"], "interrupted; the same command goes on from here"),
        (["train", "out", "--restart"], "interrupted; the same command without --restart goes on"),
        (["generate", "--model", "m.cider", "--prompt", "x"], "interrupted\n"),
    ],
)
def test_what_was_stopped_says_how_it_goes_on_if_it_does(capsys, monkeypatch, words, told):
    def perform(arguments):
        raise KeyboardInterrupt

    parsed = parser(words[0]).parse_args(words)
    parsed.perform = perform
    monkeypatch.setattr("argparse.ArgumentParser.parse_known_args", lambda *_: (parsed, []))
    assert main(words) == 130
    assert f"cidermill: {told}" in capsys.readouterr().err
