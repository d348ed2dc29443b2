"""``cidermill adapt``: a base that does not know an answer gives it after, alone or exported; what
it writes, tells and refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import training_here  # noqa: F401 - keeps compiled programs for other tests
from conftest import digests
from examples_here import PAIRS, write_base, write_rows
from gguf import GGUFReader

from pipelines import adapting
from pipelines.cli import main
from runtime.adapter_files import read_adapter, write_adapter
from runtime.file import read
from runtime.model import Model
from runtime.sampling import Sampling
from runtime.shape import matrices

FAST = ("--rank", "8", "--rate", "0.02", "--epochs", "160")
GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with a base, examples, and the adapter that was learned of all of them."""
    folder = tmp_path_factory.mktemp("home")
    write_base(folder)
    write_rows(folder / "colours.jsonl")
    assert adapt(folder, *FAST, "--validation", folder / "colours.jsonl") == 0
    return folder


def adapt(folder: Path, *options: object, examples: str = "colours.jsonl") -> int:
    return main(["adapt", f"{folder}/m.cider", "--examples", f"{folder}/{examples}",
                 *map(str, options)])  # fmt: skip


def answers(folder: Path, adapter: str | None) -> list[str]:
    model = Model.load(f"{folder}/m.cider", threads=1)
    if adapter is not None:
        model.use(model.adapter(f"{folder}/{adapter}"))
    return model.complete([prompt for prompt, _ in PAIRS], tokens=8, sampling=GREEDY)


# --- what it gives ------------------------------------------------------------------------------


def test_the_model_gives_what_it_was_taught_and_ends_there(home, capsys):
    wanted = [completion for _, completion in PAIRS]
    assert answers(home, "m.colours") == wanted
    assert not set(answers(home, None)) & set(wanted)
    word = ["generate", "--model", f"{home}/m.cider", "--temperature", "0", "--prompt", PAIRS[2][0]]
    assert main([*word, "--adapter", f"{home}/m.colours"]) == 0
    assert capsys.readouterr().out == "".join(PAIRS[2]) + "\n"


def test_scores_are_those_of_the_adapted_model(home, tmp_path):
    rows = [{"text": "".join(pair)} for pair in PAIRS]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = []
    for options in ((), ("--adapter", f"{home}/m.colours")):
        target = tmp_path / "scores.jsonl"
        assert main(["score", f"{tmp_path}/a.jsonl", "--model", f"{home}/m.cider", "--to",
                     str(target), *options]) == 0  # fmt: skip
        found.append([json.loads(line)["bits_per_byte"] for line in target.open()])
    assert all(after < before - 0.5 for before, after in zip(*found, strict=True))


def test_the_report_tells_what_it_came_to(home):
    report = json.loads((home / "m.colours.json").read_text())
    base, after = report["judged"]
    assert (base["name"], after["name"]) == ("base", "adapted")
    assert (base["exact"], after["exact"]) == (0.0, 1.0)
    assert base["examples"] == 4
    assert base["bytes"] == sum(len(completion) for _, completion in PAIRS)
    assert after["loss"] < 0.5 * base["loss"]
    # What the runtime scores as a text of its own is what the table tells of it.
    model = Model.load(f"{home}/m.cider", threads=1)
    texts = [[*model.tokenizer.encode(a), *model.tokenizer.encode(b), 1] for a, b in PAIRS]
    starts = [len(model.tokenizer.encode(a)) - 1 for a, _ in PAIRS]
    nats = [own.nats[n:] for own, n in zip(model.score_ids(texts), starts, strict=True)]
    assert base["loss"] == pytest.approx(float(np.concatenate(nats).mean()), rel=1e-6)
    assert base["tokens"] == sum(map(len, nats))
    assert len(report["losses"]) == report["facts"]["steps"] == 160
    assert report["facts"]["base"] == model.contents.digest


def test_the_adapter_is_peft_s_bound_to_its_base_and_exported(home, tmp_path):
    contents = read(f"{home}/m.cider")
    adapter = read_adapter(f"{home}/m.colours", contents.digest, matrices(contents.shape))
    assert len(adapter.factors) == 7
    config = json.loads((home / "m.colours" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["task_type"]) == (8, 8, "CAUSAL_LM")
    assert config["cidermill_adapted"]["start"] is None
    target = str(tmp_path / "a.gguf")
    assert main(["export", f"{home}/m.cider", "--adapter", f"{home}/m.colours", "--format",
                 "gguf-lora", "--to", target]) == 0  # fmt: skip
    found = {tensor.name: tensor.data for tensor in GGUFReader(target).tensors}
    np.testing.assert_array_equal(found["blk.0.ffn_down.weight.lora_b"],
                                  adapter.factors["layers.0.down"][1])  # fmt: skip


def test_the_same_command_gives_the_same_bytes_and_replaces_what_it_wrote(home, tmp_path, capsys):
    write_base(tmp_path)
    for name in ("colours", "other"):
        write_rows(tmp_path / f"{name}.jsonl")
    options = (*FAST, "--to", tmp_path / "a")
    assert adapt(tmp_path, *options, "--seed", 1) == 0
    another = digests(tmp_path / "a")
    assert adapt(tmp_path, *options, "--held-out", 0) == 0
    assert digests(tmp_path / "a") == digests(home / "m.colours") != another
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a", "a.json", "colours.jsonl", "m.cider", "other.jsonl",
    ]  # fmt: skip


# --- where it starts ----------------------------------------------------------------------------


@pytest.fixture
def begun(home, tmp_path) -> Path:
    """A base whose recovery adapter is the one that was learned, at twice the scale and half the
    size."""
    os.link(home / "m.cider", tmp_path / "m.cider")
    write_rows(tmp_path / "colours.jsonl")
    base = read(f"{home}/m.cider").digest
    factors = read_adapter(f"{home}/m.colours", base).factors
    write_adapter(f"{tmp_path}/m.recovery", {name: (a, b / 2) for name, (a, b) in factors.items()},
                  base, alpha=16)  # fmt: skip
    return tmp_path


def test_it_starts_from_the_recovery_adapter(home, begun):
    assert adapt(begun, "--epochs", 1, "--rate", "1e-9", "--held-out", 2) == 0
    report = json.loads((begun / "m.colours.json").read_text())
    base, begun_with, after = report["judged"]
    assert [base["name"], begun_with["name"], after["name"]] == ["base", "start", "adapted"]
    assert base["loss"] > 2 * begun_with["loss"] == pytest.approx(2 * after["loss"], rel=1e-3)
    assert base["examples"] == 2
    start = read_adapter(f"{begun}/m.recovery", report["facts"]["base"])
    assert report["facts"]["start"] == start.sha256
    assert answers(begun, "m.colours") == answers(home, "m.colours")
    found = read_adapter(f"{begun}/m.colours", report["facts"]["base"]).factors
    for name, (a, b) in read_adapter(f"{home}/m.colours", report["facts"]["base"]).factors.items():
        np.testing.assert_allclose(found[name][0], a, atol=1e-3)
        np.testing.assert_allclose(found[name][1], b, atol=1e-3)


def test_what_it_starts_from_can_be_named_or_left_out(begun, capsys):
    before = digests(begun / "m.recovery")
    for options, message in (
        (("--rank", 4), "--rank is 4, and .*m.recovery is of rank 8"),
        (("--from", begun / "nothing"), "/nothing cannot be read"),
        (("--from", begun / "nothing"), "another with --from, or --from none to begin from noth"),
        (("--to", begun / "m.recovery"), "m.recovery is what `quantize` writes beside the model"),
        (("--to", begun / "m.recovery", "--from", "none"), "m.recovery is what `quantize` writes"),
        (("--to", begun / "a", "--from", begun / "a"), "a is read and would be lost; name anoth"),
    ):
        assert adapt(begun, *options) == 2
        assert re.search(message, capsys.readouterr().err)
    assert digests(begun / "m.recovery") == before
    assert adapt(begun, "--from", "none", *FAST, "--epochs", 1) == 0
    report = json.loads((begun / "m.colours.json").read_text())
    assert (report["facts"]["start"], report["facts"]["rank"]) == (None, 8)


def test_another_base_is_refused(begun, tmp_path, capsys):
    (begun / "m.cider").unlink()
    write_base(begun, seed=1)
    assert adapt(begun) == 2
    error = capsys.readouterr().err
    assert re.search(r"the adapter in \S+m\.recovery is for the base \w{16}, and this", error)
    assert "--from none to begin from nothing" in error
    assert error.count("\n") == 1
    assert main(["score", f"{begun}/colours.jsonl", "--text-field", "prompt", "--model",
                 f"{begun}/m.cider", "--adapter", f"{begun}/m.recovery"]) == 2  # fmt: skip
    assert "is for the base" in capsys.readouterr().err


# --- what it refuses ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--held-out", "4"), "--held-out is 4, and there are 4 examples"),
        (("--held-out", "x"), "--held-out is 'x'"),
        (("--held-out", "1.5"), "--held-out is '1.5'; it must be a whole number"),
        (("--epochs", "0"), "0 epochs; there must be more than 0"),
        (("--tokens", "0"), "0 epochs"),
        (("--rate", "0"), "rate is 0"),
        (("--rank", "0"), "rank is 0; it must be at least 1"),
        (("--rank", "17"), "adapters of rank 17 on layers.0.k"),
        (("--batch-tokens", "0"), "batch_tokens is 0"),
        (("--seed", "-1"), "seed is -1"),
        (("--validation", "no.jsonl"), "no.jsonl: .*No such file"),
        (("--prompt-field", "question"), "colours.jsonl:1: no object with the field 'question'"),
        (("--completion-field", "answer"), "colours.jsonl:1: 'answer' must be text"),
        (("--to", "{}/no/a"), "there is no folder .*/no"),
        (("--to", "{}"), "holds .*m.cider, which is read and would be lost; name another --to"),
        (("--to", "{}/colours.jsonl"), "colours.jsonl is read and would be lost"),
        (("--to", "{}/m.quantize"), "m.quantize is what `quantize` writes beside the model; name"),
        (("--to", "{}/m.quantize.work"), "m.quantize.work is what `quantize` writes"),
    ],
)
def test_what_is_refused(home, capsys, options, message):
    before = sorted(home.iterdir())
    assert adapt(home, *(option.format(home) for option in options)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(message, error), error
    assert error.startswith("cidermill: ")
    assert sorted(home.iterdir()) == before


@pytest.mark.parametrize(
    ("there", "options", "message"),
    [
        ("caps.json", ("--examples", "{}/caps.json", "--to", "{}/caps"), "caps.json is read and"),
        ("caps.json", ("--to", "{}/caps"), "caps.json is there, is no report of `adapt` and would"),
        ("caps.json", ("--validation", "{}/caps.json", "--to", "{}/caps"), "caps.json is read"),
        ("a/mine.txt", ("--to", "{}/a"), "/a is there, is no adapter of `adapt` alone and would"),
        ("a/adapter_config.json", ("--to", "{}/a"), "/a is there, is no adapter of `adapt` alone"),
        ("quantize.jsonl", ("--examples", "{}/quantize.jsonl"), "m.quantize is what `quantize` wr"),
        ("m.colours.json", (), "m.colours.json is there, is no report of `adapt`"),
    ],
)
def test_nothing_is_lost_that_is_read_or_another_s(home, tmp_path, capsys, there, options, message):
    os.link(home / "m.cider", tmp_path / "m.cider")
    (tmp_path / there).parent.mkdir(exist_ok=True)
    write_rows(tmp_path / there, PAIRS[:1])
    write_rows(tmp_path / "colours.jsonl")
    before = digests(tmp_path)
    given = [option.format(tmp_path) for option in options]
    if "--examples" not in given:
        given += ["--examples", f"{tmp_path}/colours.jsonl"]
    assert main(["adapt", f"{tmp_path}/m.cider", *given]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert digests(tmp_path) == before


def test_an_adapter_with_something_of_another_s_is_kept(home, tmp_path, capsys):
    shutil.copytree(home, tmp_path / "home")
    (tmp_path / "home" / "m.colours" / "notes.txt").write_text("years of work")
    assert adapt(tmp_path / "home", *FAST) == 2
    assert "m.colours is there, is no adapter of `adapt` alone" in capsys.readouterr().err


def test_what_is_no_model_is_refused(home, capsys):
    for model, message in ((home, "is no file; give a .cider"), (home / "no.cider", "is no file"),
                           (home / "colours.jsonl", "is no model")):  # fmt: skip
        assert main(["adapt", str(model), "--examples", f"{home}/colours.jsonl"]) == 2
        assert message in capsys.readouterr().err


def test_a_run_that_diverges_writes_nothing(home, capsys):
    assert adapt(home, *FAST, "--rate", "1e30", "--to", home / "wild") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(
        r"^cidermill: the loss of step 2 is nan.*; nothing .* --rate below 1e\+30", error
    )
    assert not (home / "wild").exists()
    assert not (home / "wild.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_writes_nothing(home, capsys, monkeypatch, number):
    def stopped(*_):
        os.kill(os.getpid(), number)

    monkeypatch.setattr(adapting.adapt, "adapt", stopped)
    # Tests that run in the background begin with Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert adapt(home, "--to", home / "stopped") == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err.endswith("cidermill: interrupted; nothing was written\n")
    assert not list(home.glob("stopped*"))


# --- what it says -------------------------------------------------------------------------------


def test_what_may_surprise_is_said(home, tmp_path, capsys):
    os.link(home / "m.cider", tmp_path / "m.cider")
    write_rows(tmp_path / "a.jsonl", [*PAIRS, ("The sky is ", "blue.")])
    write_rows(tmp_path / "b.jsonl", [PAIRS[0], ("Fire is", " red")])
    fast = (*FAST, "--epochs", 1, "--to", tmp_path / "x")
    assert adapt(tmp_path, *fast, "--validation", tmp_path / "b.jsonl", examples="a.jsonl") == 0
    told = capsys.readouterr()
    assert "1 of 5 prompts end within a token of the whole text" in told.err
    assert "1 of 2 examples to judge on are among those to learn from" in told.err
    assert "there is no " in told.err
    assert "an adapter of rank 8 from nothing" in told.err
    # How many tokens hangs on the tokenizer, which is trained on the documentation.
    assert re.search(r"5 examples of \d+ tokens, 1 times, in 1 steps of 1 windows of 64", told.err)
    assert re.search(r"^2 held out, \d+ bytes +nats/token +bits/byte", told.out)
    write_rows(tmp_path / "b.jsonl", [("Fire is", " red"), ("Fire is", " hot")])
    assert adapt(tmp_path, *fast, examples="b.jsonl") == 0
    told = capsys.readouterr()
    assert "all examples have one prompt, so that none is set aside" in told.err
    assert "held out" not in told.out
