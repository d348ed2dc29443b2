"""``cidermill tokenizer``: the same files again, a card, one line for each mistake."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, digests

from pipelines.cli import main
from pipelines.command_tokenizer import mixture_shares
from pipelines.mixtures import load_mixture
from tokenizer.model import Tokenizer

FILES = {"tokenizer.model", "tokenizer.json", "tokenizer_config.json", "card.json", "card.html"}


def copy_of(run: Path, output: Path) -> Path:
    shutil.copytree(run, output, ignore=shutil.ignore_patterns("work", "tokenizer", "shards"))
    return output


def train(output: Path, *more: str) -> int:
    return main(["tokenizer", "train", str(output), "--vocab-size", "900", *more])


@pytest.fixture(scope="module")
def trained(samples_run, tmp_path_factory) -> Path:
    output = copy_of(samples_run, tmp_path_factory.mktemp("trained") / "out")
    assert train(output) == 0
    return output


def test_all_files_are_written_and_no_text_is_left_in_the_work_directory(trained):
    assert {path.name for path in (trained / "tokenizer").iterdir()} == FILES
    left = [path for path in (trained / "work").rglob("*") if path.is_file()]
    assert {path.parent.name for path in left} == {"lists"}
    assert Tokenizer.load(str(trained / "tokenizer" / "tokenizer.model")).vocab_size == 900


def test_the_same_command_gives_the_same_bytes(trained, samples_run, tmp_path):
    again = copy_of(samples_run, tmp_path / "out")
    assert train(again) == 0
    assert digests(again / "tokenizer") == digests(trained / "tokenizer")


def test_what_is_current_is_not_trained_again(trained, monkeypatch, capsys):
    monkeypatch.setattr("pipelines.tokenizer_training.train_all", None)
    assert train(trained) == 0
    assert "tokens a word" in capsys.readouterr().out


def test_a_file_that_is_missing_is_written_again(trained, samples_run, tmp_path):
    output = copy_of(samples_run, tmp_path / "out")
    shutil.copytree(trained / "tokenizer", output / "tokenizer")
    (output / "tokenizer" / "tokenizer.json").unlink()
    assert train(output) == 0
    assert digests(output / "tokenizer") == digests(trained / "tokenizer")


@pytest.mark.parametrize("damage", ["card.json", "tokenizer.model"])
def test_what_is_damaged_is_trained_again(trained, samples_run, tmp_path, damage):
    output = copy_of(samples_run, tmp_path / "out")
    shutil.copytree(trained / "tokenizer", output / "tokenizer")
    (output / "tokenizer" / damage).write_bytes(b"x")
    assert train(output) == 0
    assert digests(output / "tokenizer") == digests(trained / "tokenizer")


def test_the_card_stands_beside_one_of_unfiltered_text(trained):
    card = json.loads((trained / "tokenizer" / "card.json").read_text())
    assert list(card["cards"]) == ["curated", "unfiltered"]
    assert card["held_out"] is False
    samples = card["samples"]
    assert samples["unfiltered"]["bytes"] > samples["curated"]["bytes"] > 0
    rows = {row["name"] for row in card["cards"]["curated"]["languages"]}
    assert {"en", "ru", "zh"} <= rows
    page = (trained / "tokenizer" / "card.html").read_text()
    for heading in ("By language", "By source", "Pieces that look wrong", "How it was trained"):
        assert f"<h2>{heading}</h2>" in page
    assert "<script" not in page
    assert "trained on: the corpus is small" in page


def test_a_held_out_part_is_measured_where_there_is_enough(samples_run, tmp_path):
    output = copy_of(samples_run, tmp_path / "out")
    assert train(output, "--megabytes", "0.02", "--no-comparison", "--vocab-size", "700") == 0
    card = json.loads((output / "tokenizer" / "card.json").read_text())
    assert card["held_out"] is True
    assert list(card["cards"]) == ["curated"]
    assert 20_000 <= card["samples"]["curated"]["bytes"] < 30_000
    assert 0 < card["cards"]["curated"]["usage"]["bytes"] <= 1_250


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_the_trainer_ends_with_the_command(tmp_path):
    path = tmp_path / "segments.txt"
    path.write_text("".join(f"{n} some words {n * 7919 % 10_007}\n" for n in range(400_000)))
    code = (
        "import sys; from tokenizer.train import Settings, train; "
        f"train({str(path)!r}, Settings(3000), lambda n: print(n, flush=True))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (found := children.read_text().split()):
        time.sleep(0.01)
    process.kill()
    process.wait()
    child = Path(f"/proc/{found[0]}/stat")
    deadline = time.monotonic() + 60
    while child.exists() and child.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "the trainer goes on without its parent"
        time.sleep(0.01)


def test_another_seed_is_another_sample(samples_run, tmp_path):
    found = []
    for seed in ("1", "2"):
        output = copy_of(samples_run, tmp_path / seed)
        options = ("--megabytes", "0.02", "--no-comparison", "--vocab-size", "700", "--seed", seed)
        assert train(output, *options) == 0
        found.append((output / "tokenizer" / "tokenizer.model").read_bytes())
    assert found[0] != found[1]


def test_the_shares_of_a_mixture_are_those_of_what_there_is():
    mixture = load_mixture("continued")
    shares, groups = mixture_shares(mixture, ("code", "math", "web", "web2"))
    assert shares == pytest.approx({"code": 0.25 / 0.85, "math": 0.2 / 0.85, "web": 0.4 / 0.85})
    assert groups == {"code": ("code",), "math": ("math",), "web": ("web", "web2")}
    assert mixture_shares(load_mixture("core"), ("web",)) == ({}, {})


def test_shares_are_those_of_the_training_text(samples_run, tmp_path):
    inputs = sorted((ROOT / "samples").glob("*.warc.gz"))
    recipe = tmp_path / "two.yaml"
    text = (ROOT / "recipes" / "web.yaml").read_text()
    text += f"\nsources:\n  crawl: {{input: {inputs[0]}}}\n  forum: {{input: {inputs[1]}}}\n"
    recipe.write_text(text)
    output = tmp_path / "out"
    assert main(["curate", "--recipe", str(recipe), "--output", str(output), "-w", "1"]) == 0
    options = (
        "--share",
        "crawl=1",
        "--share",
        "forum=3",
        "--megabytes",
        "0.008",
        "--no-comparison",
    )
    assert train(output, *options, "--vocab-size", "600") == 0
    card = json.loads((output / "tokenizer" / "card.json").read_text())
    assert card["shares"] == {"crawl": 0.25, "forum": 0.75}
    sizes = card["samples"]["curated"]["sources"]
    # The document at the end of each part is taken whole.
    assert 2_000 <= sizes["crawl"] < 5_000
    assert 6_000 <= sizes["forum"] < 9_000


def test_encode_shows_pieces_and_ids(trained, capsys, monkeypatch):
    assert main(["tokenizer", "encode", str(trained), "in 2024"]) == 0
    assert capsys.readouterr().out.split()[-4:] == ["'2'", "'0'", "'2'", "'4'"]
    model = str(trained / "tokenizer" / "tokenizer.model")
    assert main(["tokenizer", "encode", model, "2", "--ids"]) == 0
    assert re.fullmatch(r"\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--vocab-size", "many"],
            "--vocab-size is 'many'; give a number or one of device, server",
        ),
        (["--vocab-size", "10"], "a vocabulary of 10 pieces; it needs more than 322"),
        (["--vocab-size", "device"], "the text holds fewer than 49152 pieces; train on more"),
        (["--megabytes", "0"], "--megabytes is 0; it must be above 0"),
        (["--character-coverage", "0.5"], "a character coverage of 0.5; it must be 0.9 to 1"),
        (["--share", "web=1"], "the corpus has no source 'web', but input"),
        (["--share", "input"], "--share input: give SOURCE=NUMBER"),
        (["--share", "input=1", "--mixture", "core"], "give --share or --mixture, not both"),
        (["--mixture", "continued"], "the mixture 'continued' needs 'code'"),
        (["--share", "input=0"], "a share must be above 0; leave the source out"),
    ],
)
def test_a_mistake_is_one_line(trained, tmp_path, capsys, options, message):
    assert train(trained, *options) in (1, 2)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("cidermill: ")
    assert message in last


def test_a_tokenizer_that_is_not_there_is_one_line(tmp_path, capsys):
    assert main(["tokenizer", "encode", str(tmp_path), "x"]) == 2
    assert "train one: cidermill tokenizer train" in capsys.readouterr().err
    (tmp_path / "x.model").write_bytes(b"x")
    assert main(["tokenizer", "encode", str(tmp_path / "x.model"), "x"]) == 2
    assert "this is no SentencePiece model" in capsys.readouterr().err
