"""Training runs: whole, stopped, killed and gone on with; what is refused; when they end early."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, digests
from training_here import (
    LENGTH,
    SHAPE,
    TEXTS,
    random_model,
    stage,
    training,
    write_text_shards,
)

from tokenizer.shard_set import ShardSet
from trainer import checkpoint
from trainer.checkpoint import CheckpointError
from trainer.journal import Journal
from trainer.labels import LabelError, open_labels, write_labels
from trainer.loop import Stopped, Tell
from trainer.model_files import ModelError, load_model
from trainer.optimizer import Optimizer
from trainer.sharding import make_layout
from trainer.starts import load_start
from trainer.watch import Diverged, Watch


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> ShardSet:
    return write_text_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def whole(shards, tmp_path_factory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    training(folder, shards).run()
    return folder


def losses(folder: Path) -> str:
    return (folder / "losses.jsonl").read_text()


def test_a_run_learns_validates_and_leaves_a_model(shards, whole):
    rows = Journal(str(whole / "losses.jsonl")).rows()
    assert [row["step"] for row in rows] == list(range(1, 13))
    values = [row["loss"] for row in rows]
    assert sum(values[-4:]) < sum(values[:4])
    checked = Journal(str(whole / "validations.jsonl")).rows()
    assert [row["step"] for row in checked] == [6, 12]
    assert set(checked[0]["sources"]) <= {"a", "b"}
    assert [row["tokens"] for row in checked] == [
        sum(row["tokens"] for row in rows[:step]) for step in (6, 12)
    ]
    assert 0 < checked[0]["judged"] < checked[0]["tokens"]
    assert checked[1]["bits_per_byte"] < checked[0]["bits_per_byte"]
    model = load_model(str(whole))
    assert model.shape == SHAPE
    assert model.card["steps"] == 12
    assert model.card["tokens"] == sum(row["tokens"] for row in rows)
    assert model.card["validation"]["documents"] == 4
    assert [Path(p).name for p in checkpoint.listed(str(whole / "checkpoints"))] == [
        "step-00000006", "step-00000009", "step-00000012",
    ]  # fmt: skip


def test_the_same_run_gives_the_same_bytes(shards, whole, tmp_path):
    training(tmp_path, shards).run()
    assert digests(tmp_path) == digests(whole)


@pytest.mark.parametrize("step", [1, 6, 11])
def test_a_run_that_was_asked_to_stop_goes_on(shards, whole, tmp_path, step):
    class After(Tell):
        seen = 0

        def step(self, row):
            self.seen += 1

    after = After()
    with pytest.raises(Stopped, match=f"stopped after step {step}"):
        training(tmp_path, shards, tell=after, stop=lambda: after.seen == step).run()
    assert len(losses(tmp_path).splitlines()) == step
    training(tmp_path, shards).run()
    assert losses(tmp_path) == losses(whole)
    assert digests(tmp_path / "model") == digests(whole / "model")


CHILD = """
import sys
from pathlib import Path
from tokenizer.shard_set import ShardSet
from training_here import training
training(Path(sys.argv[1]), ShardSet.open(sys.argv[2])).run()
"""


def test_a_run_that_was_killed_goes_on_bit_for_bit(shards, whole, tmp_path):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path), shards.folder], env=environment
    )
    while not (tmp_path / "checkpoints" / "step-00000003").exists() and child.poll() is None:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait()
    # What a kill in the middle of writing leaves: half a line, half a checkpoint.
    with open(tmp_path / "losses.jsonl", "a") as handle:
        handle.write('{"step": 99, "lo')
    (tmp_path / "checkpoints" / ".writing-step-00000099").mkdir()
    training(tmp_path, shards).run()
    assert losses(tmp_path) == losses(whole)
    assert digests(tmp_path / "model") == digests(whole / "model")
    assert not list((tmp_path / "checkpoints").glob(".writing*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": (stage(steps=13),)}, "stages[0].tokens was 1536 and is 1664"),
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"source": "other"}, "and is other"),
    ],
)
def test_other_settings_are_refused(shards, whole, changes, message):
    with pytest.raises(CheckpointError) as error:
        training(whole, shards, **changes).run()
    assert message in str(error.value)
    assert "name another --target, or --restart" in str(error.value)


@pytest.mark.parametrize("begun", ["now", "before"])
def test_where_the_files_of_a_stage_lie_is_no_setting(shards, tmp_path, monkeypatch, begun):
    labels = tmp_path / "labels"
    index = write_labels(random_model(gain=3.0), shards, str(labels))
    assert index["shards_done"]
    beside = {"teacher": open_labels(str(labels), shards)}
    told = {"beside": beside, "stop": iter([False, True]).__next__}
    first = (stage(steps=3, labels=str(labels), mixture="a/half.yaml"),)
    with pytest.raises(Stopped):
        training(tmp_path / "run", shards, first, **told).run()
    last = tmp_path / "run" / "checkpoints" / "step-00000002"
    if begun == "before":
        rewrite(last, "identity", "0" * 64)
    monkeypatch.chdir(tmp_path)
    again = (stage(steps=3, labels="labels", mixture="half.yaml"),)
    training(tmp_path / "run", shards, again, beside=beside).run()
    assert load_model(str(tmp_path / "run")).card["training"]["stages"][0]["labels"] == "labels"
    with pytest.raises(CheckpointError, match=r"sources\[0\] was .* and is others"):
        training(tmp_path / "run", shards, again, beside=beside, source="others").run()


@pytest.mark.parametrize("texts", [TEXTS[:3], TEXTS[::-1], [], [{**TEXTS[0], "source": "c"}]])
def test_a_run_is_validated_on_the_same_texts_to_its_end(shards, whole, tmp_path, texts):
    damaged(whole, tmp_path)
    with pytest.raises(CheckpointError) as error:
        training(tmp_path, shards, texts=texts).run()
    told = (
        r"validated on 4 documents \(\w{12}\), and now it would be on %d documents \(\w{12}\); give"
    )
    assert re.search(told % len(texts), str(error.value))
    assert str(error.value).endswith("the same --validation, another --target, or --restart")
    assert digests(tmp_path) == digests(whole)


def damaged(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    return tmp_path / "checkpoints" / "step-00000012"


def test_a_damaged_checkpoint_is_named(shards, whole, tmp_path):
    last = damaged(whole, tmp_path)
    content = bytearray((last / "params.safetensors").read_bytes())
    content[-3] ^= 1
    (last / "params.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"params.safetensors is damaged.*remove .*000012"):
        training(tmp_path, shards).run()
    shutil.rmtree(last)
    training(tmp_path, shards).run()
    assert losses(tmp_path) == losses(whole)


def test_a_checkpoint_of_another_shape_is_refused(shards, whole, tmp_path):
    last = damaged(whole, tmp_path)
    arrays, state = checkpoint.load(str(last))
    arrays["params"]["norm"] = np.ones(17, np.float32)
    kept = {k: v for k, v in state.items() if k not in ("format", "version", "step", "files")}
    checkpoint.save(str(last.parent), 12, arrays, kept)
    with pytest.raises(CheckpointError, match=r"norm is \(17,\), and this model's is \(16,\)"):
        training(tmp_path, shards).run()


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is no checkpoint"), ("[]", "not the state"), ('{"format": 1}', "not the state"),
     ('{"format": "cidermill-checkpoint", "version": 9}', "version 9"),
     ('{"format": "cidermill-checkpoint", "version": 2}', "its digest is not that of its")],
)  # fmt: skip
def test_a_state_that_is_none(shards, whole, tmp_path, content, message):
    (damaged(whole, tmp_path) / "state.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        training(tmp_path, shards).run()


def test_a_number_that_was_changed_in_a_state_is_found(shards, whole, tmp_path):
    last = damaged(whole, tmp_path)
    state = (last / "state.json").read_text()
    assert '"stage_step": 0' in state
    (last / "state.json").write_text(state.replace('"stage_step": 0', '"stage_step": 3'))
    with pytest.raises(
        CheckpointError, match=r"state.json is damaged: its.*remove \S*000012 to go"
    ):
        training(tmp_path, shards).run()


def rewrite(last: Path, name: str, value: object) -> None:
    """Another value in a state, or none for ``...``, with a digest that fits."""
    state = json.loads((last / "state.json").read_text())
    within = state["place"] if name in state["place"] and name != "step" else state
    within[name] = value
    if value is ...:
        del within[name]
    (last / "state.json").write_text(json.dumps(checkpoint.sealed(state)))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("place", ..., "'place' is absent; it must be dict"),
        ("settings", None, "'settings' is None; it must be dict"),
        ("shape", [], r"'shape' is \[\]; it must be dict"),
        ("stage_step", -1, "'stage_step' is -1; it must be int, and no number below 0"),
        ("tokens", True, "'tokens' is True; it must be int"),
        ("reader", 3, "'reader' is 3; it must be dict or null"),
    ],
)
def test_a_state_without_what_it_must_have(shards, whole, tmp_path, name, value, message):
    rewrite(damaged(whole, tmp_path), name, value)
    with pytest.raises(CheckpointError, match=rf"state.json is damaged: {message}.*; remove "):
        training(tmp_path, shards).run()


def test_rows_that_were_lost_are_told(shards, whole, tmp_path):
    notes: list[str] = []
    tell = Tell()
    tell.say = notes.append  # type: ignore[method-assign]
    damaged(whole, tmp_path)
    training(tmp_path, shards, tell=tell).run()
    assert not notes
    rows = losses(tmp_path).splitlines(keepends=True)
    (tmp_path / "losses.jsonl").write_text("".join(rows[:2] + rows[5:]))
    training(tmp_path, shards, tell=tell).run()
    (note,) = notes
    assert note.startswith(f"{tmp_path}/losses.jsonl lacks 3 of the 12 steps that are done: the")


def test_no_checkpoint_outlives_the_rows_before_it(shards, tmp_path, monkeypatch):
    """Rows and checkpoints alike are on disk when a checkpoint is: by what was written and synced
    before each."""
    unsynced: set[str] = set()
    add, sync, save = Journal.add, Journal.sync, checkpoint.save

    def added(self, row):
        add(self, row)
        unsynced.add(self._path)

    def synced(self):
        sync(self)
        unsynced.discard(self._path)

    def saved(*args):
        assert not unsynced
        return save(*args)

    monkeypatch.setattr(Journal, "add", added)
    monkeypatch.setattr(Journal, "sync", synced)
    monkeypatch.setattr(checkpoint, "save", saved)
    training(tmp_path, shards, (stage(steps=3),)).run()


def test_a_journal_that_is_synced_is_on_disk(tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(os, "fsync", lambda number: found.append(os.fstat(number).st_ino))
    journal = Journal(str(tmp_path / "rows.jsonl"))
    journal.add({"step": 1})
    journal.sync()
    assert found == [(tmp_path / "rows.jsonl").stat().st_ino]


def test_another_mesh_is_told(shards, whole, tmp_path):
    class Notes(Tell):
        found: list[str] = []  # noqa: RUF012

        def say(self, text):
            self.found.append(text)

    last = damaged(whole, tmp_path)
    training(tmp_path, shards, tell=Notes(), layout=make_layout((1,))).run()
    assert not Notes.found
    rewrite(last, "devices", "a mesh of 1x1x2x1 in 1 processes")
    training(tmp_path, shards, tell=Notes()).run()
    (note,) = Notes.found
    assert note.startswith(
        "this run was saved on a mesh of 1x1x2x1 in 1 processes and goes on on a mesh of 1x1x1x1 in"
    )


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ("a mesh of 1x1x1x1 in 1 processes, cores: 3", False),
        ("a mesh of 1x1x1x1 in 1 processes, cores: 2", True),
        # A run that began before checkpoints told them.
        ("a mesh of 1x1x1x1 in 1 processes", False),
    ],
)
def test_another_number_of_cores_is_told(shards, whole, tmp_path, monkeypatch, before, told):
    notes: list[str] = []
    tell = Tell()
    tell.say = notes.append  # type: ignore[method-assign]
    rewrite(damaged(whole, tmp_path), "devices", before)
    monkeypatch.setattr("trainer.loop.usable_cores", lambda: 3)
    training(tmp_path, shards, tell=tell).run()
    assert bool(notes) is told
    assert all("cores: 2 and goes on on" in n and "cores: 3: sums" in n for n in notes)


def test_processes_that_do_not_share_their_folder_are_refused(shards, whole, tmp_path, monkeypatch):
    damaged(whole, tmp_path)
    monkeypatch.setattr("trainer.arrays.everyone", lambda value: [int(value), 0])
    with pytest.raises(CheckpointError, match="at the steps 12, 0; it must be the same folder for"):
        training(tmp_path, shards).run()


def test_stages_follow_each_other(shards, tmp_path):
    longer = stage("context", 4, rope_base=6_315_089.0)
    stages = (stage("core", 6), stage("continued", 4, floor=0.5), longer)
    training(tmp_path, shards, stages).run()
    rows = Journal(str(tmp_path / "losses.jsonl")).rows()
    assert [row["stage"] for row in rows] == ["core"] * 6 + ["continued"] * 4 + ["context"] * 4
    assert rows[6]["loss"] < rows[0]["loss"]
    assert load_model(str(tmp_path)).shape.rope_base == 6_315_089.0


def test_a_stage_that_was_stopped_goes_on_in_that_stage(shards, tmp_path):
    stages = (stage("core", 4), stage("pruned", 6, keep=0.5), stage("after", 4))
    training(tmp_path / "whole", shards, stages).run()
    seen = iter([False] * 6 + [True] + [False] * 99)
    with pytest.raises(Stopped):
        training(tmp_path / "cut", shards, stages, stop=lambda: next(seen)).run()
    training(tmp_path / "cut", shards, stages).run()
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    small = load_model(str(tmp_path / "cut"))
    assert [layer.hidden for layer in small.shape.layers] == [32, 32]
    assert "layers.0.mask" not in small.params


def test_a_teacher_is_learned_from(shards, whole, tmp_path):
    teacher = load_model(str(whole))
    index = write_labels(teacher, shards, str(tmp_path / "labels"))
    before = digests(tmp_path / "labels")
    assert write_labels(teacher, shards, str(tmp_path / "labels")) == index
    assert digests(tmp_path / "labels") == before
    found = open_labels(str(tmp_path / "labels"), shards)
    labels = found["web-00000"]
    assert labels.shape == shards.shards[0].tokens.shape
    assert labels.dtype == shards.shards[0].tokens.dtype
    entry = index["shards_done"]["web-00000"]
    assert 0 < entry["agreed"] < entry["predicted"]
    taught = (stage(labels=str(tmp_path / "labels"), teacher_share=0.9),)
    training(tmp_path / "taught", shards, taught, beside={"teacher": found}).run()
    rows = Journal(str(tmp_path / "taught" / "losses.jsonl")).rows()
    objectives = [row["objective"] for row in rows]
    assert sum(objectives[-4:]) < sum(objectives[:4])
    assert abs(rows[-1]["objective"] - rows[-1]["loss"]) > 0.1


def test_labels_of_other_shards_are_refused(shards, whole, tmp_path):
    write_labels(load_model(str(whole)), shards, str(tmp_path / "labels"))
    others = write_text_shards(tmp_path / "others", texts=3)
    with pytest.raises(LabelError, match="are of other shards"):
        open_labels(str(tmp_path / "labels"), others)
    with pytest.raises(LabelError, match="no complete labels"):
        open_labels(str(tmp_path / "nothing"), shards)
    path = next((tmp_path / "labels").glob("*.npy"))
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(LabelError, match="is damaged"):
        open_labels(str(tmp_path / "labels"), shards)


def test_data_that_ends_early_is_told(shards, tmp_path):
    class Notes(Tell):
        found: list[str] = []  # noqa: RUF012

        def say(self, text):
            self.found.append(text)

    windows = shards.windows()["web"] // 4
    training(tmp_path, shards, (stage(steps=windows + 5),), tell=Notes()).run()
    assert any(f"ended after {windows} of {windows + 5} steps" in note for note in Notes.found)


@pytest.mark.parametrize(
    ("step", "options", "good"),
    [
        (
            5,
            {"saves": 12},
            r"step-00000003; the same run .*, with --start \S*step-00000003 and a lower rate$",
        ),
        (5, {}, r"step-00000003; the same run .*, with --start \S*step-00000003 and a lower rate$"),
        (
            3,
            {},
            "none; the same run would diverge again: begin anew with a lower rate and --restart$",
        ),
        # Only a checkpoint whose weights are not known to be good is left.
        (
            5,
            {"saves": 12, "keep": 1},
            "none; the same run would diverge again: begin anew with a lower rate and --restart$",
        ),
    ],
)
def test_a_loss_that_is_no_number_names_the_last_checkpoint_that_is_known_to_be_good(
    shards, tmp_path, monkeypatch, step, options, good
):
    watch = Watch.look

    def look(self, number, loss, norm, applied):
        return watch(self, number, math.nan if number == step else loss, norm, applied)

    monkeypatch.setattr(Watch, "look", look)
    with pytest.raises(Diverged, match=rf"the loss of step {step} is nan.*checkpoint is \S*{good}"):
        training(tmp_path, shards, **options).run()
    assert len(losses(tmp_path).splitlines()) == step - 1


def test_a_checkpoint_with_masks_is_no_beginning(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(Watch, "look", lambda self, step, *_: "worse" if step == 8 else None)
    with pytest.raises(Diverged, match="within a stage that prunes; .* begin that stage anew"):
        training(tmp_path, shards, (stage(keep=0.5),)).run()
    (good, *_) = sorted((tmp_path / "checkpoints").iterdir())
    with pytest.raises(CheckpointError, match="its masks are not learned"):
        load_start(str(good))


def test_stages_longer_than_any_window_are_judged_in_the_longest(shards, tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.loop.MAX_WINDOW", 16)
    run = training(tmp_path, shards)
    assert run.run() is not None
    assert run._scorer.length == 16


def test_the_context_is_that_of_all_the_training_before(shards, tmp_path):
    training(tmp_path / "a", shards).run()
    start = load_start(str(tmp_path / "a"))
    assert start.context == LENGTH
    run = training(tmp_path / "b", shards, start=start.params, context=4 * LENGTH)
    run.run()
    assert load_model(str(tmp_path / "b")).context == 4 * LENGTH
    last = max((tmp_path / "b" / "checkpoints").iterdir())
    assert load_start(str(last)).context == 4 * LENGTH


def test_what_is_watched_is_what_is_trained(shards, tmp_path, monkeypatch):
    """A pupil of a teacher may find the text itself less likely, and be right."""
    seen = []
    watch = Watch.look

    def look(self, number, loss, norm, applied):
        seen.append(loss)
        return watch(self, number, loss, norm, applied)

    monkeypatch.setattr(Watch, "look", look)
    training(tmp_path, shards).run()
    rows = [json.loads(line) for line in losses(tmp_path).splitlines()]
    assert seen == [row["objective"] for row in rows]
    assert seen != [row["loss"] for row in rows]


def test_weights_that_a_step_has_ruined_are_no_good_checkpoint(shards, tmp_path, monkeypatch):
    ruined = (stage(optimizer=Optimizer(rate=1e30), warmup=0),)
    with pytest.raises(
        Diverged, match="the loss of step 2 .* is none; the same run .* anew with a lower rate"
    ):
        training(tmp_path / "ruined", shards, ruined, saves=12).run()
    # Gone on with, a run knows that it went on well from all checkpoints but the last.
    seen = iter([False] * 5 + [True])
    with pytest.raises(Stopped):
        training(tmp_path / "cut", shards, stop=lambda: next(seen)).run()
    monkeypatch.setattr(Watch, "look", lambda self, *_: "worse")
    with pytest.raises(Diverged, match=r"is \S*step-00000003; the same run would diverge"):
        training(tmp_path / "cut", shards).run()


def test_a_watch_knows_divergence():
    watch = Watch()
    for step in range(50):
        assert watch.look(step, 5.0 - step / 100, 1.0, True) is None
    again = Watch(json.loads(json.dumps(watch.state())))
    told = [again.look(step, 9.0, 1.0, True) for step in range(50, 60)]
    assert told[0] is None
    assert "the loss has risen to" in next(t for t in told if t)
    skipped = [Watch({"skipped": n}).look(1, 2.0, 200.0, False) for n in (18, 19)]
    assert skipped[0] is None
    assert "20 steps in a row" in skipped[1]
    assert Watch().look(1, math.inf, 1.0, True)
    assert Watch().look(1, 1.0, math.nan, False)


def test_a_model_that_is_none_or_damaged(whole, tmp_path):
    with pytest.raises(ModelError, match="holds no model: there is no model.json"):
        load_model(str(tmp_path))
    shutil.copytree(whole / "model", tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match="is damaged"):
        load_model(str(tmp_path / "m"))
