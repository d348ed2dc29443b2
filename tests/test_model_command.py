"""``cidermill evaluate``, ``export`` and ``label``: what they print and write, and refuse."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path

import gguf
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import TINY, digests
from safetensors.numpy import load_file

from pipelines.cli import main
from tokenizer.shard_set import ShardSet
from trainer.labels import LabelError, open_labels
from trainer.model_files import load_model


@pytest.fixture(autouse=True)
def cache(machine_cache, monkeypatch):
    monkeypatch.setenv("CIDERMILL_CACHE", str(machine_cache))


@pytest.fixture(scope="module")
def shards(packed_run) -> str:
    return str(packed_run / "shards" / "512")


def fails(capsys, words: list[str], message: str) -> None:
    assert main(words) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert told.err.startswith("cidermill: ")
    assert told.err.count("\n") == 1


# --- evaluate -------------------------------------------------------------------------------------

QUESTIONS = [
    {"task": "easy", "query": "The orchard is", "choices": [" old", " zxqj zxqj"], "gold": 0},
    {"task": "easy", "query": "The mill is ", "choices": ["zxqj zxqj", "near"], "gold": 1},
    {"query": "A wall", "choices": [" a", " b", " c", " d"], "gold": 3},
]


def test_choices_without_a_space_are_told(trained_run, tmp_path, capsys):
    tasks = tmp_path / "sky.jsonl"
    tasks.write_text(json.dumps({"query": "It is", "choices": ["a", "b"], "gold": 0}) + "\n")
    assert main(["evaluate", str(trained_run), "--tasks", str(tasks)]) == 0
    assert "1 of 1 questions have choices that go on without a space" in capsys.readouterr().err


def test_documents_questions_and_prompts_in_one_go(trained_run, shards, tmp_path, capsys):
    tasks = tmp_path / "walls.jsonl"
    tasks.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
    words = ["evaluate", str(trained_run), "--validation", shards, "--tasks", str(tasks),
             "--prompt", "The mill", "--prompt-tokens", "5", "--temperature", "0",
             "--json", str(tmp_path / "found.json")]  # fmt: skip
    assert main(words) == 0
    out = capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    card = load_model(str(trained_run)).card
    assert found["model"] == card["weights_sha256"]
    # What training itself found at its end, to the last digit.
    assert found["bits"] == card["validation"]
    assert f"{found['bits']['bits_per_byte']:.4f}" in out
    assert {name: task["questions"] for name, task in found["tasks"].items()} == {
        "easy": 2, "walls": 1,
    }  # fmt: skip
    assert found["tasks"]["easy"]["accuracy"] == 1.0
    assert found["tasks"]["walls"]["chance"] == 0.25
    (continuation,) = found["continuations"]
    assert continuation["prompt"] == "The mill"
    assert out.rstrip("\n").endswith(f"The mill|{continuation['text']}".rstrip("\n"))
    assert main([*words[:2], *words[6:12], "--seed", "9"]) == 0
    # The likeliest token does not hang on chance.
    assert capsys.readouterr().out == f"The mill|{continuation['text']}\n"


def test_results_do_not_replace_what_is_read(trained_run, tmp_path, capsys):
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
    before = tasks.read_bytes()
    words = ["evaluate", str(trained_run), "--tasks", str(tasks), "--json", str(tasks)]
    fails(capsys, words, "is read and would be lost; name another --json")
    assert tasks.read_bytes() == before
    card = trained_run / "model" / "model.json"
    words = ["evaluate", str(trained_run), "--prompt", "The", "--prompt-tokens", "1", "--json"]
    fails(capsys, [*words, str(card)], "is no report of `evaluate` and would be lost")
    fails(capsys, [*words, str(tmp_path / "none" / "a")], "--json is ")
    for _ in range(2):
        assert main([*words, str(tmp_path / "found.json")]) == 0


def test_a_file_of_texts_alone_can_be_judged_in_windows_of_any_length(
    trained_run, tmp_path, capsys
):
    path = tmp_path / "mine.parquet"
    pq.write_table(pa.table({"text": ["An old mill stands there.", None, "", "a"]}), path)
    words = ["evaluate", str(trained_run), "--validation", str(path), "--sequence-length", "8"]
    assert main(words) == 0
    last = capsys.readouterr().out.splitlines()[-1].split()
    assert last[:2] == ["all", "1"]
    assert math.isfinite(float(last[4]))


def damage(run: Path, folder: Path, name: str, content: bytes) -> Path:
    shutil.copytree(run / "model", folder)
    (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"x", "model.safetensors is damaged: its digest is not that of"),
        ("model.json", b"{", "model.json cannot be read"),
        ("model.json", b"{}", "model.json is not the card of a model"),
        ("tokenizer.model", b"x", "m: "),
    ],
)
def test_a_damaged_model_is_named(trained_run, tmp_path, capsys, name, content, message):
    folder = damage(trained_run, tmp_path / "m", name, content)
    fails(capsys, ["evaluate", str(folder), "--prompt", "a"], message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to evaluate: give --validation, --tasks or --prompt"),
        (["--validation", "none"], "cannot read none/held-out.parquet"),
        (["--validation", "none.parquet"], "cannot read none.parquet"),
        (["--tasks", "none"], "none: [Errno 2]"),
        (["--prompt", ""], "the prompt is empty; give a word to go on from"),
        (["--prompt", "a", "--prompt-tokens", "0"], "--prompt-tokens is 0; it must be at least 1"),
        (
            ["--prompt", "a", "--temperature", "-1"],
            "a temperature of -1.0; it must be a number from 0",
        ),
        (
            ["--prompt", "a", "--temperature", "nan"],
            "a temperature of nan; it must be a number from 0",
        ),
        (["--prompt", "a", "--seed", "-1"], "--seed is -1; it must be at least 0"),
        (["--prompt", "a", "--sequence-length", "0"], "windows of 0 tokens; they must have"),
        (
            ["--prompt", "a", "--sequence-length", "32769"],
            "have at least 2, to predict one, and at most 32768",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(trained_run, capsys, words, message):
    fails(capsys, ["evaluate", str(trained_run), *words], message)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"id": ["a"]}, "has no column 'text', but id"),
        ({"text": [1]}, "the column 'text' is of int64 and holds no texts"),
        ({"text": ["a b"], "source": [2]}, "the column 'source' is of int64"),
        ({"text": ["a", ""]}, "holds no document of two tokens or more"),
    ],
)
def test_tables_that_hold_no_documents(trained_run, tmp_path, capsys, table, message):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table(table), path)
    fails(capsys, ["evaluate", str(trained_run), "--validation", str(path)], message)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[", ":1: no JSON"),
        ("[]", ":1: no object"),
        ('{"query": ""}', ":1: 'query' must be text that is not empty"),
        ('{"query": "a", "choices": ["b"]}', ":1: 'choices' must be 2 to 1024 texts"),
        ('{"query": "a", "choices": ["b", "c"], "gold": 2}', "'gold' is 2; it must be from 0 to 1"),
        ("", "holds no question"),
    ],
)
def test_lines_that_are_no_questions(trained_run, tmp_path, capsys, line, message):
    (tmp_path / "q.jsonl").write_text(line + "\n")
    fails(capsys, ["evaluate", str(trained_run), "--tasks", str(tmp_path / "q.jsonl")], message)


def test_a_folder_without_a_model(tmp_path, capsys):
    fails(capsys, ["evaluate", str(tmp_path), "--prompt", "a"], "holds no model")


# --- export ---------------------------------------------------------------------------------------


def test_every_format(trained_run, tmp_path, capsys):
    shutil.copytree(trained_run, tmp_path / "run")
    model = load_model(str(trained_run))
    written = {}
    for kind in ("hf", "gguf-f16", "gguf-q8_0"):
        assert main(["export", str(tmp_path / "run"), "--format", kind]) == 0
        written[kind] = Path(capsys.readouterr().out.strip())
    folder = tmp_path / "run" / "hf"
    names = ["hf", "model-f16.gguf", "model-q8_0.gguf"]
    assert list(written.values()) == [tmp_path / "run" / name for name in names]
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    weights = load_file(folder / "model.safetensors")
    np.testing.assert_array_equal(weights["model.embed_tokens.weight"], model.params["embedding"])
    for kind, dtype in (("gguf-f16", "F16"), ("gguf-q8_0", "Q8_0")):
        tensors = {t.name: t for t in gguf.GGUFReader(written[kind]).tensors}
        assert tensors["token_embd.weight"].tensor_type.name == dtype
        assert len(tensors) == len(model.params)
    # The same again replaces it, in other numbers where that is asked for.
    assert main(["export", str(tmp_path / "run" / "model"), "--dtype", "float16"]) == 0
    assert load_file(folder / "model.safetensors")["model.norm.weight"].dtype == np.float16
    assert not list((tmp_path / "run").glob("*.writing"))


def test_exports_that_would_overwrite_something_are_refused(trained_run, tmp_path, capsys):
    before = digests(trained_run)
    model = str(trained_run / "model")
    fails(capsys, ["export", model, "--to", model], "the model itself; name another folder")
    (tmp_path / "mine").mkdir()
    words = ["export", model, "--to", str(tmp_path / "mine")]
    fails(capsys, words, "is there and is no exported model; name another --to")
    # Nor is a folder that has more than an exported model does, or another's configuration.
    (tmp_path / "mine" / "config.json").write_text('{"model_type": "qwen3"}')
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    fails(capsys, words, "is there and is no exported model; name another --to")
    (tmp_path / "mine" / "thesis.tex").unlink()
    (tmp_path / "mine" / "config.json").write_text('{"model_type": "bert"}')
    fails(capsys, words, "is there and is no exported model; name another --to")
    (tmp_path / "notes").write_text("years of work")
    words = ["export", model, "--format", "gguf-f16", "--to", str(tmp_path / "notes")]
    fails(capsys, words, "is no GGUF file and would be lost; name another --to")
    assert (tmp_path / "notes").read_text() == "years of work"
    words = ["export", model, "--format", "gguf-f16", "--dtype", "float16"]
    fails(capsys, words, "--dtype is for --format hf; gguf-f16 tells it already")
    assert digests(trained_run) == before


# --- label ----------------------------------------------------------------------------------------


def test_labels_of_a_teacher_are_trained_on(trained_run, packed_run, shards, tmp_path, capsys):
    labels = tmp_path / "labels"
    assert main(["label", str(trained_run), shards, "--to", str(labels)]) == 0
    told = capsys.readouterr().out
    found = open_labels(str(labels), ShardSet.open(shards))
    index = json.loads((labels / "labels.json").read_text())
    (entry,) = index["shards_done"].values()
    assert told == f"labels   {labels}; {entry['agreed'] / entry['predicted']:.1%} of them are " \
        "the next token\n"  # fmt: skip
    recipe = tmp_path / "taught.yaml"
    recipe.write_text(TINY.replace("24576", "2048") + f"    labels: {labels}\n")
    train = ["train", str(packed_run), "-r", str(recipe), "--target", str(tmp_path / "run")]
    assert main(train) == 0
    row = json.loads((tmp_path / "run" / "losses.jsonl").read_text().splitlines()[0])
    assert abs(row["objective"] - row["loss"]) > 1e-3
    whole = (labels / "labels.json").read_text()
    for damage, message in (
        ({"shards": None}, "are of other shards"), ({"shards_done": None}, "has no labels of the"),
        ({"shards_done": dict.fromkeys(index["shards_done"], 3)}, "has no labels of the"),
    ):  # fmt: skip
        (labels / "labels.json").write_text(json.dumps({**index, **damage}))
        with pytest.raises(LabelError, match=message):
            open_labels(str(labels), ShardSet.open(shards))
        # They are labelled anew; of other shards only where that is asked for.
        words = ["label", str(trained_run), shards, "--to", str(labels)]
        assert main(words) == (2 if "shards" in damage else 0)
        assert main([*words, "--restart"]) == 0
        assert (labels / "labels.json").read_text() == whole
    # Another teacher's labels of the same name are other data.
    path = next(labels.glob("*.npy"))
    changed = np.zeros_like(next(iter(found.values())))
    np.save(path, changed)
    entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (labels / "labels.json").write_text(json.dumps(index))
    capsys.readouterr()
    assert main(train) == 2
    assert "holds a run with other settings: sources[0] was" in capsys.readouterr().err


def test_labels_that_cannot_be_written(trained_run, packed_run, shards, tmp_path, capsys):
    assert main(["label", str(trained_run), str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    fails(capsys, ["label", str(tmp_path), shards], "holds no model")
    other = tmp_path / "other"
    shutil.copytree(shards, other)
    index = json.loads((other / "index.json").read_text())
    index["tokenizer"]["sha256"] = "0" * 64
    (other / "index.json").write_text(json.dumps(index))
    words = ["label", str(trained_run), str(other)]
    fails(capsys, words, "the teacher was trained with another tokenizer than these shards")
    words = ["train", str(packed_run), "--shards", str(other), "--target", str(tmp_path / "run")]
    assert main(words) == 2
    assert "was packed with another tokenizer than" in capsys.readouterr().err
