"""``cidermill train``: what a run leaves, how it goes on, what is refused in one line."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, TINY, digests
from tokenizers_here import small_tokenizer
from training_here import stage

from pipelines.cli import main
from pipelines.command_train import _Plan, _recipe, add_parser
from pipelines.training_data import text_data
from tokenizer.shard_set import ShardSet
from trainer.bits import prepare
from trainer.loop import BEFORE
from trainer.model_files import load_model
from trainer.shape import preset
from trainer.watch import Watch

RUN_FILES = {
    "checkpoints", "model", "losses.jsonl", "validations.jsonl", "train.json", "loss.png",
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(machine_cache, monkeypatch):
    monkeypatch.setenv("CIDERMILL_CACHE", str(machine_cache))


@pytest.fixture
def recipe(tmp_path):
    """A recipe of four steps, in a file of its own; changed by what is given."""

    def write(text: str = TINY, **changes: str) -> str:
        for key, value in {"tokens": "4096", **changes}.items():
            start = text.index(f"    {key}: ") if f"    {key}: " in text else len(text)
            end = text.find("\n", start) + 1 if start < len(text) else start
            text = f"{text[:start]}    {key}: {value}\n{text[end:]}"
        path = tmp_path / "own.yaml"
        path.write_text(text)
        return str(path)

    return write


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def train(run: Path, *words: str) -> int:
    return main(["train", str(run), *words])


# --- what a run leaves ----------------------------------------------------------------------------


def test_a_run_leaves_a_model_a_report_and_a_picture(trained_run, packed_run):
    assert {path.name for path in trained_run.iterdir()} == RUN_FILES
    content = json.loads((trained_run / "train.json").read_text())
    losses = rows(trained_run / "losses.jsonl")
    index = json.loads((packed_run / "shards" / "512" / "index.json").read_text())
    assert content["steps"] == len(losses) == 24
    assert content["tokens"] == sum(row["tokens"] for row in losses)
    assert content["first_loss"] == losses[0]["loss"]
    assert content["loss"] < 0.8 * losses[0]["loss"]
    assert content["skipped_steps"] == 0
    model = load_model(str(trained_run))
    assert content["parameters"] == sum(value.size for value in model.params.values())
    assert content["settings"]["tokenizer"] == index["tokenizer"]["sha256"]
    assert content["settings"]["stages"][0]["warmup"] == 2
    assert content["measured"]["tokens_per_second"] > 0
    assert content["measured"]["peak_memory_bytes"] > 1 << 24
    assert content["final"] == model.card["validation"]
    assert content["final"]["bits_per_byte"] < content["before"]["bits_per_byte"]
    assert [row["stage"] for row in content["validations"]] == ["core"] * 8
    picture = (trained_run / "loss.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert picture.endswith(b"IEND\xaeB`\x82")


def test_validation_is_on_what_the_shards_set_aside_by_source_and_language(trained_run, packed_run):
    aside = pq.read_table(packed_run / "shards" / "512" / "held-out.parquet").to_pylist()
    content = json.loads((trained_run / "train.json").read_text())
    tokenizer = load_model(str(trained_run)).tokenizer
    for found in (content["before"], content["final"]):
        assert found["documents"] == len(aside)
        for key, name in (("sources", "source"), ("languages", "language")):
            assert set(found[key]) == {row[name] for row in aside}
            for value, part in found[key].items():
                own = prepare((row for row in aside if row[name] == value), tokenizer)
                assert part["documents"] == len(own)
                # The first token is given, so its bytes are not counted.
                assert part["bytes"] == sum(text.bytes for text in own)
            # The whole is the parts together.
            bits = sum(part["bits_per_byte"] * part["bytes"] for part in found[key].values())
            assert bits / found["bytes"] == pytest.approx(found["bits_per_byte"])
    assert [r["step"] for r in rows(trained_run / "validations.jsonl")] == [0, *range(3, 25, 3)]
    assert rows(trained_run / "validations.jsonl")[0]["stage"] == BEFORE


def test_a_finished_run_tells_again_what_it_came_to(trained_run, packed_run, tmp_path, capsys):
    shutil.copytree(trained_run, tmp_path / "run")
    tiny = str(trained_run.parent / "tiny.yaml")
    assert train(packed_run, "-r", tiny, "--target", str(tmp_path / "run")) == 0
    kept = {**digests(trained_run), **digests(tmp_path / "run")}
    assert kept == digests(trained_run)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["documents", "bytes", "accuracy", "bits/byte", "before"]
    content = json.loads((trained_run / "train.json").read_text())
    names = [*content["final"]["sources"], *map("language {}".format, ["en", "ru"]), "all"]
    assert [line[:24].strip() for line in lines[1:-4]] == names
    assert lines[-5].split()[-2:] == [
        f"{content[key]['bits_per_byte']:.4f}" for key in ("final", "before")
    ]
    assert lines[-4].startswith(f"loss     {content['first_loss']:.3f} nats a token at the first")
    assert lines[-3].startswith("steps    24, of ")
    assert lines[-2:] == [f"{a:<9}{tmp_path}/run/{b}" for a, b in
                          (("model", "model"), ("curve", "loss.png"))]  # fmt: skip


def test_totals_count_rows_that_were_lost(trained_run, packed_run, tmp_path, capsys):
    shutil.copytree(trained_run, tmp_path / "run")
    journal = tmp_path / "run" / "losses.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[10:20]))
    tiny = str(trained_run.parent / "tiny.yaml")
    assert train(packed_run, "-r", tiny, "--target", str(tmp_path / "run")) == 0
    told = capsys.readouterr()
    assert "losses.jsonl lacks 14 of the 24 steps that are done" in told.err
    assert "nats a token at the first step that has a row" in told.out
    before, after = (json.loads((f / "train.json").read_text()) for f in
                     (trained_run, tmp_path / "run"))  # fmt: skip
    assert (before["steps_without_row"], after["steps_without_row"]) == (0, 14)
    assert [after[key] for key in ("steps", "tokens")] == [24, before["tokens"]]


# --- going on, and beginning anew -----------------------------------------------------------------

STOPPED = """
import os, signal, sys
from pipelines.cli import main
from pipelines.training_show import Show

step = Show.step
def stepped(self, row):
    step(self, row)
    if row["step"] == 3:
        os.kill(os.getpid(), signal.SIGINT)
Show.step = stepped
sys.exit(main(sys.argv[1:]))
"""


def test_a_run_goes_on_after_ctrl_c_as_if_nothing_had_been(trained_run, packed_run, tmp_path):
    words = ["train", str(packed_run), "-r", str(trained_run.parent / "tiny.yaml"),
             "--target", str(tmp_path / "run")]  # fmt: skip
    child = subprocess.run(
        [sys.executable, "-c", STOPPED, *words], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert child.returncode == 130, child.stderr
    told = child.stderr.splitlines()
    assert told[-1] == "cidermill: stopped after step 3; the same command goes on from here"
    assert "stopping behind this step; once more to stop at once" in told
    assert len(rows(tmp_path / "run" / "losses.jsonl")) == 3
    assert (tmp_path / "run" / "checkpoints" / "step-00000003").is_dir()
    report = json.loads((tmp_path / "run" / "train.json").read_text())
    assert (report["steps"], report["final"]) == (3, None)
    assert main(words) == 0
    for name in ("losses.jsonl", "validations.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (trained_run / name).read_bytes()
    assert digests(tmp_path / "run" / "model") == digests(trained_run / "model")


def test_other_settings_are_refused_and_leave_the_report_as_it_was(
    trained_run, packed_run, tmp_path, capsys
):
    shutil.copytree(trained_run, tmp_path / "run")
    before = digests(tmp_path / "run")
    tiny = str(trained_run.parent / "tiny.yaml")
    words = ["-r", tiny, "--seed", "1", "--target", str(tmp_path / "run")]
    assert train(packed_run, *words) == 2
    assert "seed was 0 and is 1; name another --target, or --restart" in capsys.readouterr().err
    assert digests(tmp_path / "run") == before


def test_a_restart_that_cannot_be_removes_nothing(trained_run, packed_run, tmp_path, capsys):
    shutil.copytree(trained_run, tmp_path / "run")
    before = digests(tmp_path / "run")
    words = ["-r", str(trained_run.parent / "tiny.yaml"), "--target", str(tmp_path / "run")]
    assert train(packed_run, *words, "--restart", "--shards", str(tmp_path / "none")) == 2
    assert digests(tmp_path / "run") == before


def test_a_restart_begins_anew_and_leaves_what_is_not_a_run_s(
    trained_run, packed_run, tmp_path, recipe
):
    shutil.copytree(trained_run, tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    words = ["-r", recipe(), "--target", str(tmp_path / "run"), "--restart"]
    assert train(packed_run, *words) == 0
    assert len(rows(tmp_path / "run" / "losses.jsonl")) == 4
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert load_model(str(tmp_path / "run")).card["steps"] == 4


def test_divergence_ends_with_one_line_and_a_report(packed_run, tmp_path, recipe, monkeypatch,
                                                    capsys):  # fmt: skip
    monkeypatch.setattr(Watch, "look", lambda self, step, *_: "worse" if step == 3 else None)
    assert train(packed_run, "-r", recipe(), "--target", str(tmp_path / "run")) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    good, last = (tmp_path / "run" / "checkpoints" / f"step-0000000{n}" for n in (1, 2))
    told = f"the last good checkpoint is {good}; the same run would diverge again: begin another, "
    assert (
        error == f"cidermill: worse; {told}of another --name, with --start {good} and a lower rate"
    )
    assert last.is_dir()
    assert json.loads((tmp_path / "run" / "train.json").read_text())["steps"] == 2
    monkeypatch.undo()
    words = ["-r", recipe(), "--start", str(good), "--target", str(tmp_path / "next")]
    for restart in ([], ["--restart"]):
        assert train(packed_run, *words[:-1], str(tmp_path / "run"), *restart) == 2
        assert "lies in the folder of the run" in capsys.readouterr().err
    assert train(packed_run, *words) == 0
    state = json.loads((good / "state.json").read_text())
    card = load_model(str(tmp_path / "next")).card
    assert card["training"]["start"] == state["files"]["params.safetensors"]
    assert card["context"] == 512
    # It has begun, and does not need them any more; a run that has not, does.
    shutil.rmtree(tmp_path / "run")
    before = digests(tmp_path / "next")
    assert train(packed_run, *words) == 0
    assert digests(tmp_path / "next") == before
    capsys.readouterr()
    assert train(packed_run, *words[:-1], str(tmp_path / "third")) == 2
    assert "holds no model" in capsys.readouterr().err


# --- other data, other beginnings -----------------------------------------------------------------


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    """Ten JSONL files of two documents each."""
    folder = tmp_path_factory.mktemp("texts")
    words = (ROOT / "docs" / "commit.md").read_text()
    for number in range(10):
        with open(folder / f"{number}.jsonl", "w") as handle:
            for part in (0, 1):
                text = words[number * 100 + part * 1500 :][:3000]
                handle.write(json.dumps({"body": text}) + "\n")
    return folder


def test_texts_are_tokenized_as_they_are_read(texts, packed_run, tmp_path, recipe, capsys):
    words = ["--texts", str(texts / "*.jsonl"), "--field", "body", "-r", recipe(tokens="1M"),
             "--target", str(tmp_path / "run")]  # fmt: skip
    assert train(packed_run, *words) == 0
    told = capsys.readouterr()
    steps = len(rows(tmp_path / "run" / "losses.jsonl"))
    assert 5 < steps < 40
    assert f"the data of core ended after {steps} of 976 steps" in told.err
    assert "nothing was set aside to validate on" in told.out
    assert "nothing tells whether documents" not in told.err
    assert load_model(str(tmp_path / "run")).card["validation"] is None


def test_texts_that_the_thresholds_leave_out_are_told(texts, packed_run, tmp_path, recipe, capsys):
    for number in range(4):
        (tmp_path / f"{number}.jsonl").write_text(json.dumps({"body": "Short."}) + "\n")
    words = ["--texts", str(tmp_path / "*.jsonl"), "--texts", str(texts / "*.jsonl"),
             "--field", "body", "-r", recipe(), "--target", str(tmp_path / "run")]  # fmt: skip
    assert train(packed_run, *words) == 0
    told = capsys.readouterr().err.splitlines()
    first = told.index("core: the texts that were read")
    counts = json.loads((tmp_path / "run" / "train.json").read_text())["measured"]["texts"]["core"]
    assert counts["since_step"] == 0
    assert 0 < counts["short_documents"] <= 4
    assert told[first + 2].split()[:2] == ["read", str(counts["documents"])]
    assert told[first + 3].split()[:4] == ["too", "few", "characters",
                                           str(counts["short_documents"])]  # fmt: skip


def test_a_stage_without_a_step_leaves_no_model(packed_run, tmp_path, recipe, capsys):
    rows = [json.dumps({"text": "Words. " * words}) for words in (4, 4, 40)]
    (tmp_path / "short.jsonl").write_text("\n".join(rows) + "\n")
    words = ["--texts", str(tmp_path / "short.jsonl"), "-r", recipe()]
    assert train(packed_run, *words, "--target", str(tmp_path / "run")) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "cidermill: the data of core ended before its first step, which takes 2 windows of 512 "
        "tokens: of 3 documents 2 have fewer than 200 characters, and 1 fewer than 256 tokens; the "
        "others have 0 tokens; give more data, longer texts, or smaller batches"
    )
    assert not (tmp_path / "run" / "model").exists()
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_a_later_stage_without_a_step_names_what_was_trained(texts, packed_run, tmp_path, capsys):
    head, first = TINY.split("  - ")
    second = first.replace("core", "second").replace("24576", "1M").replace("1024", "1M")
    second = second.replace("warmup: 2", "warmup: 1")
    (tmp_path / "two.yaml").write_text(f"{head}  - {first.replace('24576', '2048')}  - {second}")
    words = ["--texts", str(texts / "*.jsonl"), "--field", "body", "-r", str(tmp_path / "two.yaml"),
             "--target", str(tmp_path / "run")]  # fmt: skip
    assert train(packed_run, *words) == 2
    last = tmp_path / "run" / "checkpoints" / "step-00000002"
    error = capsys.readouterr().err.splitlines()[-1]
    assert "the data of second ended before its first step" in error
    assert f"; what was trained before it is {last}, for another run" in error
    assert last.is_dir()


def test_texts_are_known_by_what_they_say(texts, tmp_path):
    shutil.copytree(texts, tmp_path / "texts")

    def identity() -> str:
        pattern = [str(tmp_path / "texts" / "*.jsonl")]
        return text_data(pattern, stage(), small_tokenizer(), 0, field="body").identity

    before = identity()
    path = tmp_path / "texts" / "3.jsonl"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"e", b"i", 1))
    assert path.stat().st_size == len(content)
    assert identity() != before
    path.write_bytes(content)
    assert identity() == before


def test_a_mixture_a_start_and_pruning(trained_run, packed_run, tmp_path, recipe, capsys):
    mixture = tmp_path / "half.yaml"
    mixture.write_text(
        "name: half\nsequence_length: 512\n"
        "components: [{name: all, sources: ['*'], max_repeats: 2}]\n"
    )
    own = recipe(mixture=str(mixture), keep="0.5")
    aside = tmp_path / "mine.parquet"
    pq.write_table(pa.table({"text": ["Some words of my own.", "x" * 40, None]}), aside)
    words = ["-r", own, "--start", str(trained_run), "--validation", str(aside)]
    assert train(packed_run, *words, "--target", str(tmp_path / "run")) == 0
    model = load_model(str(tmp_path / "run"))
    assert [layer.hidden for layer in model.shape.layers] == [32, 32]
    assert model.card["validation"]["documents"] == 2
    assert model.card["training"]["start"] == load_model(str(trained_run)).card["weights_sha256"]
    assert "'max_repeats': '2'" in model.card["training"]["sources"][0]
    other = "and not the one that the recipe tiny describes"
    assert other not in capsys.readouterr().err
    # The pruned model has other dimensions than the recipe's.
    words = ["-r", recipe(tokens="1024", warmup="0"), "--start", str(tmp_path / "run")]
    assert train(packed_run, *words, "--target", str(tmp_path / "after")) == 0
    assert f"the model is {tmp_path}/run as it is, {other}" in capsys.readouterr().err
    assert load_model(str(tmp_path / "after")).shape == model.shape
    first = rows(tmp_path / "run" / "losses.jsonl")[0]["loss"]
    begun = rows(trained_run / "losses.jsonl")
    # It begins about where the other ended, not at the start.
    assert abs(first - begun[-1]["loss"]) < abs(first - begun[0]["loss"])


def test_the_options_describe_a_stage(packed_run, tmp_path, monkeypatch):
    """What a run without a recipe would be, without the minute that a preset takes."""
    from trainer.loop import Training

    found = {}

    def run(self):
        found["settings"] = self.settings
        raise KeyboardInterrupt

    monkeypatch.setattr(Training, "run", run)
    words = ["--preset", "1m", "--tokens", "100k", "--rate", "0.02", "--prune", "0.25",
             "--optimizer", "adamw", "--seed", "5"]  # fmt: skip
    assert train(packed_run, *words, "--layer-wise", "--target", str(tmp_path / "a")) == 130
    (stage,) = found["settings"].stages
    assert (stage.length, stage.batch, stage.steps) == (512, 8, 24)
    assert (stage.optimizer.rate, stage.optimizer.decay, stage.keep) == (0.02, 0.1, 0.25)
    assert found["settings"].seed == 5
    assert not found["settings"].shape.uniform
    assert train(packed_run, "--tokens", "1M", "--batch-tokens", "2k", "--name", "n") == 130
    (stage,) = found["settings"].stages
    assert (stage.batch, stage.optimizer.rate, found["settings"].seed) == (3, 0.01, 0)
    assert (packed_run / "models" / "n").is_dir()
    shutil.rmtree(packed_run / "models")


def test_a_preset_beside_a_recipe_s_layer_wise_model_is_layer_wise(packed_run, tmp_path):
    own = tmp_path / "own.yaml"
    model = "model: {layer_wise: true, width: 128, layers: 3, head: 32}"
    lines = TINY.splitlines(keepends=True)
    assert lines[1].startswith("model: ")
    own.write_text("".join([lines[0], model, "\n", *lines[2:]]))

    def shape(*words: str):
        parser = argparse.ArgumentParser()
        add_parser(parser.add_subparsers())
        return _recipe(parser.parse_args(["train", "-r", str(own), *words])).shape(900)

    assert shape("--preset", "1m") == preset("1m", 900, layer_wise=True)
    assert shape().layers != shape("--preset", "1m").layers
    own.write_text(TINY)
    assert shape("--preset", "1m") == preset("1m", 900)


def test_the_first_process_decides_on_bf16_for_all(packed_run, tmp_path, monkeypatch):
    """One that decided for itself would train in another type than the others, who then wait."""
    asked = []

    def everyone(value: int) -> list[int]:
        asked.append(value)
        return [1, value]

    monkeypatch.setattr("trainer.arrays.everyone", everyone)
    monkeypatch.setattr("trainer.compute.bf16_ratio", lambda *_: 0.9)
    second = argparse.Namespace(process=1, compute="bf16", restart=False)
    # It measures all the same: the first one's answer comes no sooner.
    own = SimpleNamespace(notes=[], _own_compute=lambda *_: "f32")
    assert _Plan._compute(own, second, None, str(tmp_path)) == "bf16"
    assert asked == [0]


# --- what is refused ------------------------------------------------------------------------------

WRONG = [
    (["--tokens", "0"], "--tokens is 0; it must be at least 1"),
    (["--tokens", "many"], "--tokens is 'many'; write a number such as 10M, 64k or 3e-4"),
    (["--tokens", "100"], "the stage 'core' has 100 tokens, and one step takes 8192"),
    (["--batch-tokens", "0"], "--batch-tokens is 0; it must be at least 1"),
    (["--preset", "7m", "--tokens", "100"], "no preset '7m'; there are 1m, 5m, 15m, 85m"),
    (["--mixture", "context-lengthening"], "the mixture 'context-lengthening' "),
    (["--validation", __file__], "is no Parquet file by its name, and no folder of shards"),
    (["--prune", "0.95", "--preset", "1m"], "to keep 0.95 of 384 hidden values removes none"),
    (["--rate", "0"], "rate is 0.0; it must be above 0"),
    (["--rate", "0", "--optimizer", "adamw"], "rate is 0.0; it must be above 0"),
    (["--prune", "0"], "pruning to a share of 0; it must be above 0 and below 1"),
    (["--prune", "1"], "pruning to a share of 1; it must be above 0 and below 1"),
    (["--keep", "0"], "--keep is 0; it must be at least 1"),
    (["--seed", "-1"], "--seed is -1; it must be at least 0"),
    (["--preset", "2m"], "no preset '2m'; there are 1m, 5m, 15m, 85m"),
    (["--recipe", "none"], "no training recipe 'none': give a YAML file or one of afm, laptop"),
    (["--recipe", "afm", "--rate", "1"], "--rate and --recipe; a recipe tells it for each stage"),
    (["--recipe", "afm", "--tokens", "1G"], "--tokens is '1G'; write a number"),
    (["--recipe", "laptop"], "shards/1024 holds no shards"),
    (["--mixture", "none"], "no mixture 'none': give a YAML file or one of"),
    (["--mixture", "continued"], "the mixture 'continued' needs 'code'"),
    (["--labels", "none"], "none holds no complete labels; run `cidermill label` (again)"),
    (["--start", "none"], "none holds no model: there is no model.json; run `cidermill train`"),
    (["--start", "none", "--preset", "1m"], "--preset and --start; the model has its dimensions"),
    (["--start", "none", "--layer-wise"], "--layer-wise and --start; the model has its"),
    (["--tokenizer", "none"], "no tokenizer at none/tokenizer/tokenizer.model; train one"),
    (["--shards", "none"], "none"),
    (["--validation", "none"], "cannot read none/held-out.parquet"),
    (["--texts", "none*"], "no file matches none*"),
    (["--texts", "x", "--shards", "y"], "--shards and --texts; it is for shards"),
    (["--texts", "x", "--mixture", "core"], "--mixture and --texts; it is for shards"),
    (["--texts", "x", "--labels", "y"], "--labels and --texts; it is for shards"),
    (["--texts", "x", "--recipe", "afm"], "the stage 'core' has mixture, which are for shards"),
    (["--texts", "x", "--sequence-length", "1"], "--sequence-length is 1; it must be at least 2"),
    (["--sequence-length", "64"], "--sequence-length without --texts; shards have their own"),
    (["--field", "body"], "--field without --texts; shards have their own"),
    (["--mesh", "2x2"], "a mesh of 2x2x1x1 needs 4 devices; there are 1"),
    (["--mesh", "two"], "a mesh of 'two'; write it like 2x4x1x1"),
    (["--processes", "2"], "--processes is 2, which needs --coordinator HOST:PORT"),
    (["--process", "1"], "process 1 of 1; they count from 0 to one less than their number"),
]


@pytest.mark.parametrize(
    ("words", "message"), WRONG, ids=lambda v: " ".join(v) if isinstance(v, list) else ""
)
def test_what_cannot_be_is_one_line(packed_run, tmp_path, capsys, words, message):
    assert train(packed_run, *words, "--target", str(tmp_path / "run")) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert message in told.err
    assert told.err.startswith("cidermill: ")
    assert told.err.count("\n") == 1


def test_what_is_validated_on_may_be_trained_on_unless_ids_tell(texts, packed_run, tmp_path, recipe,
                                                                capsys):  # fmt: skip
    aside = tmp_path / "mine.parquet"
    pq.write_table(pa.table({"text": ["Some words of my own."]}), aside)
    unknown = "nothing tells whether documents that are validated on are trained on as well"
    words = ["-r", recipe(), "--validation", str(aside)]
    assert train(packed_run, *words, "--target", str(tmp_path / "a")) == 0
    assert unknown in capsys.readouterr().err
    words = ["-r", recipe(), "--validation", str(packed_run / "shards" / "512")]
    assert train(packed_run, *words, "--target", str(tmp_path / "b")) == 0
    assert unknown not in capsys.readouterr().err


def test_a_damaged_shard_is_trained_on_by_none(packed_run, tmp_path, capsys):
    shards = Path(shutil.copytree(packed_run / "shards" / "512", tmp_path / "512"))
    tokens = sorted(shards.glob("*.tokens.npy"))[0]
    content = bytearray(tokens.read_bytes())
    content[-1] ^= 1
    tokens.write_bytes(content)
    words = ["--shards", str(shards), "--target", str(tmp_path / "run")]
    assert train(packed_run, *words) == 2
    told = capsys.readouterr().err
    assert told == f"cidermill: {tokens.name} is damaged: its digest is not that of the index\n"


def test_what_is_validated_on_is_trained_on_in_no_stage(packed_run, tmp_path, capsys):
    documents = ShardSet.open(str(packed_run / "shards" / "512")).shards[0].documents()
    aside = tmp_path / "mine.parquet"
    texts = pa.array(["Some words."] * len(documents))
    pq.write_table(documents.select(["id"]).append_column("text", texts), aside)
    words = ["--validation", str(aside), "--target", str(tmp_path / "run")]
    assert train(packed_run, *words) == 2
    url = documents["url"][0].as_py()
    assert f"holds documents that {aside} set aside for validation, such as {url}; pack it with " \
        f"--held-out {aside}\n" in capsys.readouterr().err  # fmt: skip


def test_a_text_that_is_none_is_named_by_its_line(texts, packed_run, tmp_path, capsys):
    (tmp_path / "x.jsonl").write_text('{"text": 1}\n')
    words = ["--texts", str(tmp_path / "*.jsonl"), "--preset", "1m", "--tokens", "100k"]
    assert train(packed_run, *words, "--target", str(tmp_path / "run")) == 2
    assert f"{tmp_path}/x.jsonl:1: 'text' is int and no text" in capsys.readouterr().err


def test_without_shards_or_with_several_kinds(packed_run, tmp_path, capsys):
    assert train(tmp_path, "--target", str(tmp_path / "run")) == 2
    assert f"holds no shards; run `cidermill pack {tmp_path}` first" in capsys.readouterr().err
    for name in ("128", "512"):
        (tmp_path / "shards" / name).mkdir(parents=True)
        (tmp_path / "shards" / name / "index.json").write_text("{}")
    assert train(tmp_path, "--target", str(tmp_path / "run")) == 2
    assert "several kinds (128, 512); choose with --shards" in capsys.readouterr().err


def test_two_runs_into_one_folder(packed_run, tmp_path, capsys):
    from pipelines.hold import hold

    with hold(str(tmp_path / "run")):
        assert train(packed_run, "--target", str(tmp_path / "run")) == 2
    assert "another run is writing to" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(packed_run, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert train(packed_run) == 2
    line = "cidermill: this needs jax, safetensors, matplotlib: install cidermill[train]\n"
    assert capsys.readouterr().err == line
