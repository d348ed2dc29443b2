"""The trainer's small parts: journal, checkpoints, stages, hosts, linear maps, chunks, labels."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpy_twin as twin
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_here import LENGTH, random_model, write_text_shards

from tokenizer.reader import gather
from trainer import checkpoint, compute
from trainer.checkpoint import CheckpointError
from trainer.compute import Hosts
from trainer.headed import read_headed
from trainer.journal import Journal
from trainer.labels import LabelError, open_labels, write_labels
from trainer.linear import linear, product_over_tokens
from trainer.loss import from_chunks, next_tokens, to_chunks
from trainer.shape import ShapeError
from trainer.stages import Stage, make_optimizer

ARRAYS = {
    "params": {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float32)},
    "state": {"v": np.array([7], np.int32)},
}


def journal(tmp_path: Path, *steps: int) -> Journal:
    found = Journal(str(tmp_path / "losses.jsonl"))
    for step in steps:
        found.add({"step": step, "loss": step / 3})
    return found


def test_a_journal_gives_back_its_rows(tmp_path):
    assert journal(tmp_path).rows() == []
    found = journal(tmp_path, 1, 2, 3)
    assert found.rows() == [{"step": n, "loss": n / 3} for n in (1, 2, 3)]


@given(st.integers(0, 200))
def test_a_journal_that_was_cut_anywhere_has_whole_rows(tmp_path_factory, size):
    folder = tmp_path_factory.mktemp("journal")
    found = journal(folder, 1, 2, 3, 4)
    path = folder / "losses.jsonl"
    content = path.read_bytes()[:size]
    path.write_bytes(content)
    whole = content.count(b"\n")
    assert [row["step"] for row in found.rows()] == list(range(1, whole + 1))
    found.cut(99)
    found.add({"step": 5})
    assert [row["step"] for row in found.rows()] == [*range(1, whole + 1), 5]


def test_a_journal_is_cut_behind_a_step(tmp_path):
    found = journal(tmp_path, 1, 2, 2, 3)
    before = (tmp_path / "losses.jsonl").read_text().splitlines()
    found.cut(2)
    assert (tmp_path / "losses.jsonl").read_text().splitlines() == before[:3]
    assert os.listdir(tmp_path) == ["losses.jsonl"]
    found.cut(0)
    assert found.rows() == []


def test_a_checkpoint_gives_back_what_it_was_given(tmp_path):
    path = checkpoint.save(str(tmp_path), 7, ARRAYS, {"seed": 3})
    assert Path(path).name == "step-00000007"
    arrays, state = checkpoint.load(path)
    for file, content in ARRAYS.items():
        for name, value in content.items():
            assert arrays[file][name].dtype == value.dtype
            np.testing.assert_array_equal(arrays[file][name], value)
    assert (state["step"], state["seed"]) == (7, 3)
    # Once more, of a run that was begun anew: in place of it.
    checkpoint.save(str(tmp_path), 7, {"params": {"a": np.zeros(2, np.float32)}}, {"seed": 4})
    arrays, state = checkpoint.load(path)
    assert list(arrays) == ["params"]
    assert state["seed"] == 4


def test_checkpoints_are_listed_by_step_and_the_last_are_kept(tmp_path):
    for step in (9, 100_000_000, 10):
        checkpoint.save(str(tmp_path), step, ARRAYS, {})
    (tmp_path / ".writing-step-00000011").mkdir()
    (tmp_path / "step-12").mkdir()
    found = [Path(path).name for path in checkpoint.listed(str(tmp_path))]
    assert found == ["step-00000009", "step-00000010", "step-100000000"]
    checkpoint.keep_last(str(tmp_path), 2)
    assert sorted(os.listdir(tmp_path)) == ["step-00000010", "step-100000000", "step-12"]
    with pytest.raises(ValueError, match="the last 0 checkpoints; at least 1"):
        checkpoint.keep_last(str(tmp_path), 0)
    assert checkpoint.listed(str(tmp_path / "absent")) == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "state.json names no files"),
        (["params.safetensors"], "state.json names no files"),
        ({"../params.safetensors": ""}, "names the file '../params.safetensors'"),
        ({"params.npy": ""}, "names the file 'params.npy'"),
        ({"other.safetensors": ""}, "other.safetensors cannot be read"),
        ({"params.safetensors": "0"}, "params.safetensors is damaged"),
    ],
)
def test_a_state_that_names_what_it_should_not(tmp_path, files, message):
    path = Path(checkpoint.save(str(tmp_path), 1, ARRAYS, {}))
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(checkpoint.sealed({**state, "files": files})))
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(str(path))


def test_arrays_of_another_model_are_named():
    wanted = {"a": (2, 3), "b": (4,)}
    checkpoint.check_shapes("x", ARRAYS["params"], wanted)
    for changed, message in (
        ({**wanted, "c": (1,)}, "x lacks c, which this model has"),
        ({"a": (2, 3)}, "x has b, which this model lacks"),
        ({**wanted, "a": (3, 2)}, r"x: a is \(2, 3\), and this model's is \(3, 2\)"),
    ):
        with pytest.raises(CheckpointError, match=message):
            checkpoint.check_shapes("x", ARRAYS["params"], changed)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"), ("{", "cannot be read"), ("[" * 100_000, "cannot be read"),
        ("[]", "is not a thing"), ('{"format": "other", "version": 1}', "is not a thing"),
        ('{"format": "f"}', "is of version None; this code reads version 1"),
        ('{"format": "f", "version": "1"}', "is of version '1'"),
    ],
)  # fmt: skip
def test_a_file_says_what_it_is(tmp_path, content, message):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CheckpointError, match=message):
        read_headed(str(path), "f", 1, "a thing", CheckpointError)
    path.write_text('{"format": "f", "version": 1, "more": 2}')
    assert read_headed(str(path), "f", 1, "a thing", CheckpointError)["more"] == 2


STAGE = {"name": "core", "tokens": 1000, "length": 10, "batch": 10}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": 0}, "tokens is 0; it must be at least 1"),
        ({"length": 1}, "length is 1; it must be at least 2"),
        ({"batch": 0}, "batch is 0; it must be at least 1"),
        ({"tokens": 99}, "the stage 'core' has 99 tokens, and one step takes 100"),
        ({"warmup": 10.5}, "warmup is 10.5; give a share below 1 or at most 10 steps"),
        ({"warmup": float("nan")}, "warmup is nan"),
        ({"floor": 1.5}, "floor is 1.5; it must be from 0 to 1"),
        ({"teacher_share": -0.5}, "teacher_share is -0.5; it must be from 0 to 1"),
    ],
)
def test_a_stage_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        Stage(**{**STAGE, **changes})


def test_a_share_that_no_mask_keeps():
    with pytest.raises(ShapeError, match="pruning to a share of 1; it must be above 0 and below 1"):
        Stage(**STAGE, keep=1.0)


def test_the_steps_of_a_stage():
    stage = Stage(**{**STAGE, "tokens": 1099})
    assert (stage.steps, stage.step_tokens, stage.warmup_steps) == (10, 100, 1)
    assert [Stage(**STAGE, warmup=w).warmup_steps for w in (0.35, 1, 4.0, 10)] == [3, 1, 4, 10]
    assert json.loads(json.dumps(stage.to_dict()))["optimizer"]["rate"] == 0.01


def test_an_optimizer_by_its_name():
    assert make_optimizer("afm", {"rate": 0.02}).rate == 0.02
    assert make_optimizer("adamw", {}).decay_by_rate
    with pytest.raises(ValueError, match="no optimizer 'sgd'; there are afm, adamw"):
        make_optimizer("sgd", {})
    with pytest.raises(ValueError, match="no such setting of an optimizer: .*'speed'"):
        make_optimizer("afm", {"speed": 1})


@pytest.mark.parametrize(
    ("host", "processes", "process", "message"),
    [
        ("a:1", 2, 2, "process 2 of 2; they count from 0"),
        ("a:1", 2, -1, "process -1 of 2"),
        ("a:1", 0, 0, "process 0 of 0"),
        ("a", 1, 0, "the coordinator is 'a'; give HOST:PORT"),
        ("a:", 1, 0, "the coordinator is 'a:'"),
        (":1", 1, 0, "the coordinator is ':1'"),
    ],
)
def test_hosts_that_cannot_be(host, processes, process, message):
    with pytest.raises(ValueError, match=message):
        Hosts(host, processes, process)


def test_the_ratio_of_bf16_is_the_median_of_rounds_that_time_both(monkeypatch):
    """By a clock that says how long each took: f32 and bf16 in turn, on a machine that slows down.
    Two rounds were disturbed; the quickest of each type would say 2, and so their means."""
    f32 = [2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 50.0, 5.0, 5.0]
    bf16 = [2.5, 2.5, 3.75, 3.75, 5.0, 5.0, 6.25, 1.0, 6.25]
    rounds = [took for pair in zip(f32, bf16, strict=True) for took in pair]
    assert len(rounds) == 2 * compute.ROUNDS
    clock = iter([time for took in rounds for time in (100.0, 100.0 + took)])
    monkeypatch.setattr(compute.time, "perf_counter", lambda: next(clock))
    assert compute.bf16_ratio(8, 16, tokens=4) == 0.8


@pytest.mark.parametrize(
    ("ratio", "pays"), [(1.049, False), (1.05, True), (0.9, False), (2.0, True)]
)
def test_bf16_pays_where_it_is_clearly_faster(ratio, pays):
    assert compute.bf16_pays(ratio) is pays


def test_what_is_timed_is_computed_in_its_own_type():
    x, weight = jnp.ones((4, 8), jnp.bfloat16), jnp.ones((8, 16), jnp.bfloat16)
    assert {found.dtype for found in compute._block(x, weight)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize(("a", "b"), [(3, 5), (5, 3), (4, 4)])
def test_a_linear_map_and_its_gradients(a, b):
    random = np.random.default_rng(a)
    x, weight, g = (
        random.normal(size=shape).astype(np.float32) for shape in ((2, 6, a), (a, b), (2, 6, b))
    )

    @jax.jit
    def run(x, weight, g):
        found, back = jax.vjp(linear, x, weight)
        return found, *back(g)

    found, dx, dweight = run(x, weight, g)
    np.testing.assert_allclose(found, x @ weight, atol=1e-5)
    np.testing.assert_allclose(dx, g @ weight.T, atol=1e-5)
    np.testing.assert_allclose(dweight, np.einsum("tia,tib->ab", x, g), atol=1e-5)
    np.testing.assert_allclose(product_over_tokens(x, g), dweight, atol=1e-5)


@pytest.mark.parametrize(("batch", "tokens", "chunk"), [(2, 7, 6), (3, 4, 1), (1, 5, 512)])
def test_chunks_go_back_together(batch, tokens, chunk):
    array = jnp.arange(batch * tokens * 2).reshape(batch, tokens, 2)
    cut = to_chunks(array, chunk)
    assert cut.shape[1] == batch
    assert cut.shape[2] == max(1, min(chunk // batch, tokens))
    np.testing.assert_array_equal(from_chunks(cut, tokens), array)


def test_what_is_to_be_predicted():
    tokens = jnp.array([[5, 6, 7, 8, 9, 0]])
    segments = jnp.array([[1, 1, 1, 2, 2, 0]])
    found = next_tokens(tokens, segments)
    assert found.ids[0, :5].tolist() == [6, 7, 8, 9, 0]
    assert found.weights.tolist() == [[1, 1, 0, 1, 0, 0]]
    assert found.teacher is found.ids
    assert next_tokens(tokens, segments, tokens + 1).teacher.tolist() == (tokens + 1).tolist()


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_text_shards(tmp_path_factory.mktemp("shards"), texts=2)


def test_labels_are_the_teachers_first_choices(shards, tmp_path):
    teacher = random_model(gain=3.0)
    index = write_labels(teacher, shards, str(tmp_path))
    found = open_labels(str(tmp_path), shards)["web-00000"]
    batch = gather([(shards.shards[0], n) for n in (0, 3)], 2, LENGTH)
    held = {name: twin.T(value) for name, value in teacher.params.items()}
    expected = twin.logits(held, teacher.shape, batch).data.argmax(-1)
    real = batch["segments"] > 0
    np.testing.assert_array_equal(found[[0, 3]][real], expected[real])
    whole = gather([(shards.shards[0], n) for n in range(len(found))], len(found), LENGTH)
    weights = np.asarray(next_tokens(jnp.asarray(whole["tokens"]), whole["segments"]).weights)
    right = (found[:, :-1] == whole["tokens"][:, 1:]) & (weights[:, :-1] > 0)
    entry = index["shards_done"]["web-00000"]
    assert (entry["predicted"], entry["agreed"]) == (weights.sum(), right.sum())


@pytest.mark.parametrize("damage", ["removed", "damaged"])
def test_labels_that_are_not_whole_are_written_anew(shards, tmp_path, damage):
    teacher = random_model(gain=3.0)
    write_labels(teacher, shards, str(tmp_path))
    path = tmp_path / "web-00000.labels.npy"
    content = path.read_bytes()
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(LabelError, match=r"run `cidermill label` again"):
        open_labels(str(tmp_path), shards)
    counts: list[int] = []
    write_labels(teacher, shards, str(tmp_path), counts.append)
    assert path.read_bytes() == content
    assert sum(counts) == shards.shards[0].tokens.size
    # Whole, they stay.
    before = path.stat().st_mtime_ns
    write_labels(teacher, shards, str(tmp_path))
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("other", ["teacher", "shards"])
def test_labels_of_another_teacher_or_other_shards_stay_until_they_are_given_up(
    shards, tmp_path, other
):
    write_labels(random_model(gain=3.0), shards, str(tmp_path / "labels"))
    path = tmp_path / "labels" / "web-00000.labels.npy"
    content = path.read_bytes()
    teacher = random_model(seed=8, gain=3.0)
    if other == "shards":
        teacher, shards = random_model(gain=3.0), write_text_shards(tmp_path, texts=3)
    with pytest.raises(LabelError, match=f"of (an)?other {other}; .*--to, or --restart"):
        write_labels(teacher, shards, str(tmp_path / "labels"))
    assert path.read_bytes() == content

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_labels(teacher, shards, str(tmp_path / "labels"), interrupt, anew=True)
    # What was given up stays so: this goes on with the new ones.
    write_labels(teacher, shards, str(tmp_path / "labels"))
    assert path.read_bytes() != content
    assert open_labels(str(tmp_path / "labels"), shards)


def test_a_teacher_of_other_words_is_refused(shards, tmp_path):
    index = {**shards.index, "tokenizer": {**shards.index["tokenizer"], "sha256": "0"}}
    other = type(shards).__new__(type(shards))
    other.__dict__.update({**shards.__dict__, "index": index})
    with pytest.raises(LabelError, match="trained with another tokenizer than these shards"):
        write_labels(random_model(), other, str(tmp_path / "labels"))
    assert not (tmp_path / "labels").exists()
