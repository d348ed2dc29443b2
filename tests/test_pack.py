"""``cidermill pack``: nothing is lost, the same bytes however it ran, and after a kill."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import ROOT, digests

from pipelines.cli import main
from pipelines.corpus import Unit
from pipelines.pack_run import Group, Tokenized, make_groups
from tokenizer.mixture import Plan
from tokenizer.model import Tokenizer
from tokenizer.reader import WindowReader
from tokenizer.shard_set import ShardSet

LENGTH = ("--sequence-length", "128")


@pytest.fixture(scope="module")
def corpus(samples_run, tmp_path_factory) -> Path:
    """A corpus with a tokenizer, which tests do not write to."""
    output = tmp_path_factory.mktemp("corpus") / "out"
    shutil.copytree(samples_run, output, ignore=shutil.ignore_patterns("work"))
    assert main(["tokenizer", "train", str(output), "--vocab-size", "900", "--no-comparison"]) == 0
    return output


def pack(corpus: Path, folder: Path, *options: str) -> Path:
    """Pack into a folder of its own; gives the folder of shards."""
    words = ["pack", str(corpus), *LENGTH, "--target", str(folder / "shards"),
             "--work-dir", str(folder / "work"), *options]  # fmt: skip
    assert main(words) == 0
    return folder / "shards"


@pytest.fixture(scope="module")
def packed(corpus, tmp_path_factory) -> Path:
    return pack(corpus, tmp_path_factory.mktemp("packed"), "--shard-tokens", "4000")


def texts_of(corpus: Path) -> dict[str, str]:
    """Every document of the corpus by id."""
    rows = [row for path in sorted((corpus / "documents").glob("*.parquet"))
            for row in pq.read_table(path, columns=["id", "text"]).to_pylist()]  # fmt: skip
    return {row["id"]: row["text"] for row in rows}


def test_every_document_comes_back_from_its_tokens(corpus, packed):
    tokenizer = Tokenizer.load(str(corpus / "tokenizer" / "tokenizer.model"))
    found = {}
    for shard in ShardSet.open(str(packed)).shards:
        ids = shard.documents()["id"].to_pylist()
        for name, tokens in zip(ids, shard.document_tokens(), strict=True):
            assert tokens[-1] == 1
            assert 1 not in tokens[:-1]
            found[name] = tokenizer.decode(tokens)
    aside = pq.read_table(packed / "held-out.parquet").to_pylist()
    assert len(aside) == 4
    assert not found.keys() & {row["id"] for row in aside}
    assert {**found, **{row["id"]: row["text"] for row in aside}} == texts_of(corpus)


def test_rows_tell_bytes_tokens_and_language(corpus, packed):
    texts = texts_of(corpus)
    languages = set()
    for shard in ShardSet.open(str(packed)).shards:
        for row in shard.documents().to_pylist():
            assert row["bytes"] == len(texts[row["id"]].encode())
            languages.add(row["language"])
    assert {"en", "ru"} <= languages


def test_the_index_counts_and_the_digests_hold(corpus, packed):
    opened = ShardSet.open(str(packed))
    opened.verify()
    totals = opened.index["totals"]
    assert totals["documents"] == len(texts_of(corpus)) - 4
    assert totals["windows"] * 128 == totals["tokens"] + totals["padding"]
    assert len(opened.shards) > 1


def test_short_documents_are_in_one_piece(packed):
    for shard in ShardSet.open(str(packed)).shards:
        lengths = shard.documents()["tokens"].to_pylist()
        for document, _, offset in shard.pieces.tolist():
            assert offset == 0 or lengths[document] > 128


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_number_of_workers_changes_no_byte(corpus, packed, tmp_path, workers):
    again = pack(corpus, tmp_path, "--shard-tokens", "4000", "--workers", workers)
    assert digests(again) == digests(packed)


def test_the_whole_graph_on_a_runner_of_beam_gives_the_same_bytes(corpus, packed, tmp_path):
    again = pack(corpus, tmp_path, "--shard-tokens", "4000", "--runner", "FnApiRunner")
    assert digests(again) == digests(packed)


def test_the_order_of_inputs_changes_no_byte(corpus, packed, tmp_path):
    inputs = sorted(ROOT.glob("samples/*.warc.gz"), reverse=True)
    words = [word for path in inputs for word in ("--input", str(path))]
    output = tmp_path / "out"
    assert main(["curate", *words, "--output", str(output), "--workers", "1"]) == 0
    assert main(["tokenizer", "train", str(output), "--vocab-size", "900", "--no-comparison"]) == 0
    assert digests(output / "tokenizer") == digests(corpus / "tokenizer")
    assert digests(pack(output, tmp_path, "--shard-tokens", "4000")) == digests(packed)


def test_a_pack_that_was_killed_goes_on(corpus, packed, tmp_path):
    words = [sys.executable, "-m", "pipelines", "pack", str(corpus), *LENGTH,
             "--target", str(tmp_path / "shards"), "--work-dir", str(tmp_path / "work"),
             "--shard-tokens", "4000", "--workers", "1"]  # fmt: skip
    process = subprocess.Popen(words, start_new_session=True, stderr=subprocess.DEVNULL, cwd=ROOT)
    tokens = tmp_path / "work" / "tokens"
    while not list(tokens.rglob("*[!s].parquet")) and process.poll() is None:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() != 0
    assert not (tmp_path / "shards" / "index.json").exists()
    before = {path: path.stat().st_mtime_ns for path in tokens.rglob("*[!s].parquet")}
    assert before
    assert digests(pack(corpus, tmp_path, "--shard-tokens", "4000")) == digests(packed)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())


def test_other_settings_leave_no_shard_of_the_old_ones(corpus, tmp_path):
    pack(corpus, tmp_path, "--shard-tokens", "1000")
    many = len(list((tmp_path / "shards").iterdir()))
    fresh = pack(corpus, tmp_path / "fresh")
    assert digests(pack(corpus, tmp_path)) == digests(fresh)
    assert len(list((tmp_path / "shards").iterdir())) < many


def test_settings_that_come_back_find_no_files_of_others(corpus, tmp_path):
    first = digests(pack(corpus, tmp_path))
    other = digests(pack(corpus, tmp_path, "--seed", "1"))
    assert other != first
    assert {name.rpartition("/")[2] for name in other} == {n.rpartition("/")[2] for n in first}
    target = pack(corpus, tmp_path)
    assert digests(target) == first
    ShardSet.open(str(target)).verify()


def test_a_shard_that_was_damaged_is_packed_again(corpus, packed, tmp_path):
    target = pack(corpus, tmp_path, "--shard-tokens", "4000")
    [path, *_] = sorted(target.glob("*.tokens.npy"))
    path.write_bytes(b"")
    assert digests(pack(corpus, tmp_path, "--shard-tokens", "4000")) == digests(packed)


def test_concatenation_pads_less_and_cuts_more(corpus, packed, tmp_path):
    other = ShardSet.open(str(pack(corpus, tmp_path, "--packing", "concatenate"))).index
    own = ShardSet.open(str(packed)).index
    assert other["totals"]["padding"] < 128 <= own["totals"]["padding"]
    assert other["totals"]["tokens"] == own["totals"]["tokens"]
    assert other["packing"]["method"] == "concatenate"


def test_long_documents_are_a_source_of_their_own(corpus, tmp_path):
    opened = ShardSet.open(str(pack(corpus, tmp_path, "--long-tokens", "500")))
    assert list(opened.windows()) == ["input", "input.long"]
    for shard in opened.shards:
        for count in shard.documents()["tokens"].to_pylist():
            assert (count >= 500) == (shard.source == "input.long")


def test_the_plan_of_a_mixture_feeds_the_reader(corpus, tmp_path, capsys):
    mixture = tmp_path / "m.yaml"
    mixture.write_text(
        "name: m\nsequence_length: 128\nlong_tokens: 500\ncomponents:\n"
        "  - {name: long, sources: ['*.long'], share: 1, max_repeats: 2}\n"
        "  - {name: rest, sources: ['*'], share: 1}\n"
    )
    target = tmp_path / "shards"
    words = ["pack", str(corpus), "--mixture", str(mixture), "--target", str(target),
             "--work-dir", str(tmp_path / "work"), "--tokens", "6400"]  # fmt: skip
    assert main(words) == 0
    assert re.search(r"long +25 +3200 +50.0%", capsys.readouterr().out)
    plan = Plan.from_dict(json.loads((target / "mixture.json").read_text()))
    assert len(list(WindowReader(ShardSet.open(str(target)), plan, batch=5))) == 10


def test_shards_are_shown_verified_and_exported(packed, tmp_path, capsys):
    assert main(["shards", "show", str(packed)]) == 0
    assert "windows of 128 tokens, best-fit" in capsys.readouterr().out
    assert main(["shards", "verify", str(packed)]) == 0
    assert "shards are as they were written" in capsys.readouterr().out
    assert main(["shards", "export", str(packed), "--target", str(tmp_path)]) == 0
    tokens = ShardSet.open(str(packed)).index["totals"]["tokens"]
    assert (tmp_path / "input.bin").stat().st_size == 2 * tokens
    assert main(["shards", "verify", str(tmp_path)]) == 2
    assert "holds no shards" in capsys.readouterr().err


# --- groups -------------------------------------------------------------------------------------


def tokenized(*counts: int) -> list[Tokenized]:
    return [
        Tokenized("web", count, Unit(f"t-{n:03d}", "documents", "web", "p", 0, 1, 1, ""))
        for n, count in enumerate(counts)
    ]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((10,), [10]),
        ((60, 40, 100, 50), [100, 100, 50]),
        ((60, 40, 100, 49), [100, 149]),
        ((99, 99, 99), [198, 99]),
        ((300, 1), [301]),
    ],
)
def test_units_are_shared_out_to_shards(counts, expected):
    groups = make_groups("web", tokenized(*counts)[::-1], 100)
    assert [group.size for group in groups] == expected
    assert [group.key for group in groups] == [f"web-{n:05d}" for n in range(len(groups))]
    assert [u.key for g in groups for u in g.units] == [f"t-{n:03d}" for n in range(len(counts))]
    assert all(Group.from_json(group.to_json()) == group for group in groups)


# --- mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sequence-length", "15"], "--sequence-length is 15; it must be at least 16"),
        (["--shard-tokens", "0"], "--shard-tokens is 0; it must be at least 1"),
        (["--tokens", "10"], "--tokens needs --mixture"),
        (
            ["--mixture", "core", "--sequence-length", "64"],
            "is 64, but the mixture 'core' is for 4096",
        ),
        (["--mixture", "none"], "no mixture 'none': give a YAML file or one of"),
        (["--mixture", "core", "--tokens", "1e9"], "ask for at most"),
        (["--mixture", "continued"], "needs 'code'"),
        (["--tokenizer", "/none.model"], "no tokenizer at /none.model; train one"),
    ],
)
def test_a_mistake_is_one_line(corpus, tmp_path, capsys, options, message):
    where = ["--target", str(tmp_path / "s"), "--work-dir", str(tmp_path / "w")]
    assert main(["pack", str(corpus), *where, *options]) == 2
    [last] = capsys.readouterr().err.strip().splitlines()[-1:]
    assert last.startswith("cidermill: ")
    assert message in last


def test_a_mixture_that_cannot_fit_is_refused_before_anything_is_packed(corpus, tmp_path):
    where = ["--target", str(tmp_path / "s"), "--work-dir", str(tmp_path / "w")]
    assert main(["pack", str(corpus), *where, "--mixture", "continued"]) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_corpus_is_one_line(tmp_path, capsys):
    assert main(["pack", str(tmp_path)]) == 2
    assert "holds no finished run" in capsys.readouterr().err
