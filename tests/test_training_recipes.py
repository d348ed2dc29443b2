"""Training recipes: the shipped ones' numbers, scaling, and mistakes pointed at by line."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.shipped import shipped_names
from pipelines.training_data import _plan, shard_data
from pipelines.training_recipes import load_training, make_shape, parse_training
from pipelines.training_report import smooth
from pipelines.yaml_tree import RecipeError
from trainer.shape import PRESETS, ShapeError, preset
from trainer.stages import Stage

STAGE = "{name: core, sequence_length: 64, tokens: 10k, batch_tokens: 640}"
PLAIN = f"name: own\nmodel: {{preset: 1m}}\nstages:\n  - {STAGE}\n"


def test_afm_has_the_papers_numbers():
    """arXiv 2407.21075, section 3.2: tokens, window, batch, rate, warm-up, floor and decay."""
    recipe = load_training("afm")
    told = [
        (s.name, s.tokens, s.length, s.batch, s.optimizer.rate, s.warmup_steps, s.floor,
         s.optimizer.decay, s.rope_base, s.mixture)
        for s in recipe.stages
    ]  # fmt: skip
    assert told == [
        ("core", 6_300_000_000_000, 4096, 4096, 0.01, 5000, 0.005, 3.16e-4, None, "core"),
        ("continued", 10**12, 8192, 2048, 3e-4, 1000, 0.001, 1e-5, None, "continued"),
        ("context-lengthening", 10**11, 32_768, 512, 3e-4, 1000, 0.001, 1e-5, 6_315_089.0,
         "context-lengthening"),
    ]  # fmt: skip
    for stage in recipe.stages:
        optimizer = stage.optimizer
        assert (optimizer.square_decay, optimizer.update_decay) == (0.95, 0.95)
        assert (optimizer.clip, optimizer.skip, optimizer.update_clip) == (1.0, 100.0, 1.0)
        assert optimizer.mup_width == 768
    assert recipe.shape(49_152).rope_base == 500_000.0
    assert recipe.shape(49_152) == preset("85m", 49_152)


def test_every_shipped_recipe_can_be_read():
    assert shipped_names("training") == ("afm", "laptop")
    laptop = load_training("laptop")
    assert [stage.length for stage in laptop.stages] == [512, 1024, 2048]
    assert [stage.mixture for stage in laptop.stages] == [None] * 3


def test_budgets_and_batches_scale_together_and_warm_up_with_them():
    afm = load_training("afm")
    small = afm.scaled(74_000_000, 65_536)
    assert [stage.tokens for stage in small.stages] == [63_000_000, 10_000_000, 1_000_000]
    assert [stage.batch for stage in small.stages] == [16, 8, 2]
    for stage, own in zip(small.stages, afm.stages, strict=True):
        share = own.warmup_steps / own.steps
        assert stage.warmup_steps == max(1, int(share * stage.steps))
        assert stage.optimizer == own.optimizer
    assert afm.scaled(None, None) == afm
    with pytest.raises(ValueError, match="'core' has 851 tokens, and one step takes 16777216"):
        afm.scaled(1000, None)


@given(warmup=st.integers(0, 10), factor=st.integers(1, 50))
def test_a_warm_up_keeps_its_share_of_the_steps(warmup, factor):
    recipe = parse_training(f"{PLAIN[:-2]}, warmup: {warmup}}}\n", "x")
    scaled = recipe.scaled(6400 * factor, None).stages[0]
    assert scaled.steps == 10 * factor
    assert scaled.warmup_steps == max(1, warmup * scaled.steps // 15)


def test_a_recipe_says_everything():
    text = """\
name: own
seed: 3
model: {width: 64, layers: 3, heads: 4, kv_heads: 2, head: 16, hidden: 96}
stages:
  - name: core
    sequence_length: 64
    tokens: 10k
    batch_tokens: 700
    mixture: core
    optimizer: {kind: adamw, rate: 1e-3, decay: 0.2, mup_width: null, decay_norms: true}
    warmup: 0.1
    floor: 0.1
    rope_base: 1M
    keep: 0.5
    labels: somewhere
    teacher_share: 0.5
"""
    recipe = parse_training(text, "own.yaml")
    (stage,) = recipe.stages
    assert (recipe.name, recipe.seed, stage.batch, stage.steps) == ("own", 3, 10, 15)
    assert (stage.optimizer.rate, stage.optimizer.decay) == (1e-3, 0.2)
    assert stage.optimizer.mup_width is None
    assert stage.optimizer.decay_norms is True
    assert (stage.keep, stage.labels, stage.teacher_share) == (0.5, "somewhere", 0.5)
    assert (stage.rope_base, stage.mixture) == (1e6, "core")
    assert [layer.hidden for layer in recipe.shape(500).layers] == [96] * 3
    grown = make_shape({"layer_wise": True, "width": 128, "layers": 3, "head": 32}, 500)
    assert not grown.uniform


def test_null_switches_a_bound_off_as_the_report_writes_it():
    text = PLAIN.replace(
        "640}", "640, optimizer: {clip: null, skip: null, update_clip: null, mup_width: null}}"
    )
    (stage,) = parse_training(text, "x").stages
    optimizer = stage.optimizer
    assert (optimizer.clip, optimizer.skip, optimizer.update_clip) == (math.inf,) * 3
    told = optimizer.to_dict()
    assert [told[key] for key in ("clip", "skip", "update_clip", "mup_width")] == [None] * 4


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("name: own", "named: own", "x:1: unknown key 'named' in a training recipe; allowed: "),
        ("model: {preset: 1m}\n", "", "x:1: a training recipe needs 'model'"),
        ("stages:\n", "seed: -1\nstages:\n", "x:3: seed is -1; it must be at least 0"),
        (f"\n  - {STAGE}", " []", "x:3: a training recipe needs at least one stage"),
        (f"  - {STAGE}", f"  - {STAGE}\n  - {STAGE}", "x:3: two stages are called 'core'"),
        ("preset: 1m", "preset: 2m", "x:2: no preset '2m'; there are 1m, 5m, 15m, 85m"),
        ("preset: 1m", "preset: 1m, width: 8", "x:2: a preset has its own width"),
        ("preset: 1m", "width: 8", "x:2: a model needs a preset (1m, 5m, 15m, 85m), or width"),
        ("preset: 1m", "preset: 1m, layer_wise: 2", "layer_wise is 2; it must be true or false"),
        ("preset: 1m", "layer_wise: true, width: 64, layers: 2, head: x", "head is 'x'; it must"),
        ("preset: 1m", "width: 64, layers: 2, heads: 3, kv_heads: 2, head: 16, hidden: 8",
         "3 heads over 2 key-value heads"),
        ("name: core, ", "", "x:4: a stage needs 'name'"),
        ("tokens: 10k, ", "", "x:4: a stage needs 'tokens'"),
        ("tokens: 10k", "tokens: many", "x:4: tokens is 'many'; write a number such as 10M"),
        ("tokens: 10k", "tokens: 1.5", "x:4: tokens is 1.5; it must be a whole number"),
        ("tokens: 10k", "tokens: 10", "the stage 'core' has 10 tokens, and one step takes 640"),
        ("sequence_length: 64", "sequence_length: 1", "sequence_length is 1; it must be at least"),
        ("batch_tokens: 640", "batch_tokens: 0", "x:4: batch_tokens is 0; it must be at least 1"),
        ("640}", "640, warmup: 99}", "warmup is 99; give a share below 1 or at most 15 steps"),
        ("640}", "640, floor: 2}", "floor is 2; it must be from 0 to 1"),
        ("640}", "640, keep: 1}", "pruning to a share of 1; it must be above 0 and below 1"),
        ("640}", "640, teacher_share: 2}", "teacher_share is 2; it must be from 0 to 1"),
        ("640}", "640, rope_base: 1}", "x:4: a RoPE base of 1; it must be above 1 and below 1e12"),
        ("640}", "640, optimizer: {kind: sgd}}", "no optimizer 'sgd'; there are afm, adamw"),
        ("640}", "640, optimizer: {speed: 1}}", "no such setting of an optimizer"),
        ("640}", "640, optimizer: {rate: 0}}", "rate is 0.0; it must be above 0"),
        ("640}", "640, optimizer: {rate: true}}", "rate is True; write a number such as 10M"),
        ("640}", "640, optimizer: {rate: null}}", "rate is None; write a number such as 10M"),
        ("640}", "640, optimizer: {eps: null}}", "eps is None; write a number such as 10M"),
        ("640}", "640, optimizer: {skip: false}}", "skip is False; write a number such as 10M"),
        ("640}", "640, optimizer: {skip: .inf}}", "x:4: skip is inf; write null for no bound"),
        ("640}", "640, optimizer: {mup_width: true}}", "mup_width is True; write a number"),
        ("640}", "640, optimizer: {decay_norms: 3.5}}", "is 3.5; it must be true or false"),
        ("640}", "640, optimizer: {decay_by_rate: null}}", "is None; it must be true or false"),
        ("640}", "640, labels: ''}", "x:4: labels is empty; name what it is, or leave it out"),
        ("640}", "640, mixture: ''}", "x:4: mixture is empty; name what it is, or leave it out"),
        ("640}", "640, optimizer: 3}", "an optimizer must be a mapping of names to values"),
        ("640}", "640, mixture: 3}", "x:4: mixture must be text, not 3"),
    ],
)  # fmt: skip
def test_a_mistake_is_pointed_at(before, after, message):
    assert before in PLAIN
    with pytest.raises(RecipeError, match=re.escape(message)):
        parse_training(PLAIN.replace(before, after), "x")


def test_the_presets_have_about_the_parameters_of_their_names():
    for name in PRESETS:
        for layer_wise in (False, True):
            shape = preset(name, 1000, layer_wise=layer_wise)
            body = (shape.parameters - shape.embedding_parameters) / 1e6
            assert 0.7 < body / float(name[:-1]) < 1.3, (name, layer_wise, body)
    with pytest.raises(ShapeError, match="this one has nothing"):
        make_shape({}, 1000)


# --- the data of a stage --------------------------------------------------------------------------


def stage(**changes: object) -> Stage:
    settings = {"tokens": 20 * 512, "length": 512, "batch": 2, **changes}
    return Stage("core", **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def shards(packed_run):
    from pipelines.tokenizer_file import load

    return str(packed_run / "shards" / "512"), load(str(packed_run))


def test_a_stage_reads_as_many_windows_as_its_steps_take(shards):
    folder, tokenizer = shards
    data = shard_data(folder, stage(), tokenizer, seed=1)
    assert sum(len(batch["tokens"]) for batch in data.open()) == 20
    assert data.notes == ()
    halves = [shard_data(folder, stage(), tokenizer, 1, hosts=2, host=n) for n in (0, 1)]
    assert {half.identity for half in halves} == {data.identity}
    assert [sum(len(b["tokens"]) for b in half.open()) for half in halves] == [10, 10]


def test_what_is_read_over_and_over_is_told(shards):
    from tokenizer.shard_set import ShardSet

    folder, tokenizer = shards
    windows = sum(ShardSet.open(folder).windows().values())
    often = stage(tokens=10 * windows * 512)
    (note,) = shard_data(folder, often, tokenizer, 0).notes
    assert note.startswith(f"core: {often.tokens} tokens are 10.0 times what the shards hold")
    assert not shard_data(folder, stage(tokens=4 * windows * 512), tokenizer, 0).notes


def test_what_a_mixture_reads_over_and_over_is_told(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(
        "name: own\nsequence_length: 512\ncomponents:\n"
        "  - {name: few, sources: [a], share: 60, max_repeats: 30}\n"
        "  - {name: rest, sources: ['*'], share: 40, max_repeats: 30}\n"
    )
    windows = {"a": 10, "b": 5, "c": 5}
    often = stage(tokens=100 * 512, batch=1, mixture=str(path))
    (note,) = _plan(often, windows)[1]
    assert note == (
        "core: the mixture 'own' takes all of 'few' 6.0 times; beyond 4 times more of the same "
        "teaches little"
    )
    assert not _plan(stage(tokens=66 * 512, batch=1, mixture=str(path)), windows)[1]


def test_a_report_s_mean_has_no_bias_to_its_start():
    rows = [{"loss": value} for value in (4.0, 4.0, 1.0)]
    found = smooth(rows)
    assert found[:2] == pytest.approx([4.0, 4.0])
    weights = [Fraction(9, 10) ** 2, Fraction(9, 10), Fraction(1)]
    mean = sum(w * Fraction(row["loss"]) for w, row in zip(weights, rows, strict=True))
    assert found[2] == pytest.approx(float(mean / sum(weights)))
