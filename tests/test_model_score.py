"""Bits per byte of documents: counted right, the same whatever else is scored, bounded by rules."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
from unittest import mock

import apache_beam as beam
import numpy as np
import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models_here import a_model, write_absurd

from filters import model_score
from filters.batch import Batch, StageFailure, apply
from filters.document import Document
from filters.model_score import MIN_BYTES, ModelOptions
from filters.stages import _build_model
from pipelines.cli import main, parser
from pipelines.command_curate import plan
from pipelines.curate import curate
from pipelines.recipe import from_text
from pipelines.resources import stage_resources
from pipelines.yaml_tree import RecipeError
from runtime import native
from runtime.bits import cut, measure, paragraph_starts
from runtime.build import NoLibrary
from runtime.model import Model

PROSE = "The orchard stands on a hill above the river, and the trees are old. " * 5
NOISE = "xq#9 zzKv~~ 0x7f|| qpwm" * 12
TEXTS = ["", "a", PROSE, NOISE, f"{PROSE}\n\n{NOISE}\n \nEnd.", "été 東京\n" * 40, PROSE * 8]

RECIPE = """
name: scored
stages:
  - read
  - extract
  - model:
      options: {file: MODEL}
      rules:
        model.bits_per_byte: {max: BOUND}
"""


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.load(a_model(), threads=1, context=512)


# --- bits and bytes -----------------------------------------------------------------------------


def test_bits_are_those_of_the_scores_and_bytes_those_behind_the_first_token(model):
    (found,) = measure(model, [PROSE])
    (scored,) = model.score([PROSE])
    ids = model.tokenizer.encode(PROSE).tolist()
    first = len(model.tokenizer.decode(ids[:1]).encode())
    assert found.tokens == len(ids) - 1
    assert found.whole.bytes == len(PROSE.encode()) - first
    assert found.whole.bits == pytest.approx(scored.nats.sum() / math.log(2), rel=1e-6)
    assert found.whole.per_byte == pytest.approx(found.whole.bits / found.whole.bytes, abs=5e-5)


def test_a_text_scores_the_same_alone_in_a_batch_and_with_more_threads(model):
    together = measure(model, TEXTS)
    assert [measure(model, [text])[0] for text in TEXTS] == together
    threads = Model.load(a_model(), threads=3, context=512)
    assert measure(threads, TEXTS[::-1]) == together[::-1]


def test_numpy_and_the_kernels_give_the_same(model):
    plain = Model.load(a_model(), context=64, kernels="numpy")
    text = PROSE[:60]
    assert measure(plain, [text], window=64) == measure(model, [text], window=64)


def test_texts_of_one_token_or_none_are_not_measured(model):
    empty, one = measure(model, ["", "a"])
    assert (empty.whole.per_byte, one.whole.per_byte) == (None, None)
    assert (empty.tokens, one.tokens) == (0, 0)


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["word ", "é", "京", "\n", "\n\n", " ", "\ud800", "\x00"])))
def test_paragraphs_part_the_text_and_their_bits_add_up(model, pieces):
    text = "".join(pieces)
    (found,) = measure(model, [text])
    parts = found.paragraphs
    assert parts[0].start == 0
    assert parts[-1].end == len(text)
    assert [part.end for part in parts[:-1]] == [part.start for part in parts[1:]]
    assert sum(part.bytes for part in parts) == found.whole.bytes
    assert sum(part.bits for part in parts) == pytest.approx(found.whole.bits)


def test_where_paragraphs_begin():
    assert paragraph_starts("one\ntwo\n\nthree\n \t\n\nfour\n\n") == [0, 9, 19]
    assert paragraph_starts("one\ntwo\n") == [0, 4]
    assert paragraph_starts("") == [0]


def test_a_paragraphs_bits_are_of_the_tokens_that_begin_in_it(model):
    text = f"{PROSE}\n\n{NOISE}"
    (found,) = measure(model, [text])
    ids = model.tokenizer.encode(text).tolist()
    (scored,) = model.score([text])
    ends = np.cumsum([len(model.tokenizer.decode([i]).encode()) for i in ids])
    second = ends[:-1] >= len(PROSE) + 2
    assert found.paragraphs[1].bits == pytest.approx(
        float(scored.nats[second].sum()) / math.log(2), rel=1e-6
    )


@settings(max_examples=50)
@given(st.text(), st.integers(1, 20))
def test_a_cut_text_is_a_beginning_of_whole_characters(text, most):
    found = cut(text, most)
    assert text.startswith(found)
    assert len(found.encode()) <= most
    assert found == text or len(text[: len(found) + 1].encode()) > most


# --- the stage ----------------------------------------------------------------------------------


def options(**changes) -> ModelOptions:
    return ModelOptions(file=a_model(), **changes)


def test_signals_of_the_whole_and_of_paragraphs(model):
    text = f"{PROSE}\n\n{NOISE}\n\nshort"
    (found,) = model_score.measure([text], options())
    assert set(found) == {signal.name for signal in model_score.SIGNALS}
    (expected,) = measure(model, [text])
    prose, noise, short = (part.per_byte for part in expected.paragraphs)
    assert expected.paragraphs[2].bytes < MIN_BYTES
    assert short not in found.values()
    assert found["model.bits_per_byte"] == expected.whole.per_byte
    assert found["model.worst_paragraph"] == max(prose, noise)
    assert found["model.easiest_paragraph"] == min(prose, noise)


@pytest.mark.parametrize("text", ["", "a"])
def test_nothing_is_measured_on_texts_without_a_second_token(text):
    (found,) = model_score.measure([text], options())
    assert set(found.values()) == {None}


def test_the_stage_measures_many_documents_in_one_call_as_it_measures_each(model):
    stage = _build_model(options())
    documents = [Document(str(n), "", "", text) for n, text in enumerate(TEXTS)]
    batch = Batch("i", 0, 0, len(TEXTS), documents)
    with mock.patch.object(Model, "score_ids", autospec=True, side_effect=Model.score_ids) as calls:
        apply(batch, "model", stage, 60)
    assert calls.call_count == 1 < len(TEXTS)
    alone = [model_score.measure([text], options())[0] for text in TEXTS]
    assert [document.signals for document in documents] == alone


def test_only_the_beginning_of_a_long_text_is_scored():
    short = options(most_bytes=len(PROSE))
    assert model_score.measure([PROSE + NOISE], short) == model_score.measure([PROSE], options())


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"window": 1}, "window is 1 tokens"), ({"most_bytes": 0}, "most_bytes is 0")],
)
def test_options_out_of_bounds(changes, message):
    with pytest.raises(ValueError, match=message):
        options(**changes)


def test_a_recipe_must_name_the_file():
    with pytest.raises(RecipeError, match="the stage 'model' needs the option 'file', a path"):
        from_text("name: x\nstages: [read, extract, model]\n")


def run_over(tmp_path, texts, file, bound=99.0, forget=False):
    """Curate texts in one process; rows of both tables by number, and dead letters."""
    rows = [json.dumps({"text": text, "url": str(n)}) for n, text in enumerate(texts)]
    (tmp_path / "in.jsonl").write_text("\n".join(rows) + "\n")
    recipe = tmp_path / "scored.yaml"
    recipe.write_text(RECIPE.replace("MODEL", str(file)).replace("BOUND", str(bound)))
    output = tmp_path / "out"
    given = ["curate", "-r", str(recipe), "-o", str(output), "--input", str(tmp_path / "in.jsonl")]
    run, found = plan(parser().parse_args(given))
    if forget:
        run = dataclasses.replace(run, staged=stage_resources(dict(run.resources), run.work))
        os.remove(file)
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        curate(pipeline, found, run)
    return [
        {int(row["url"]): row for row in ds.dataset(output / name).to_table().to_pylist()}
        for name in ("documents", "rejected")
    ]


def test_a_rule_bounds_it_and_workers_get_a_copy_of_the_file(tmp_path, model):
    """The file that the recipe names is gone when workers run, as on another machine."""
    texts = [PROSE, NOISE, "a"]
    values = [found.whole.per_byte for found in measure(model, texts)]
    low, high = sorted(values[:2])
    named = shutil.copy(a_model(), tmp_path / "m.cider")
    kept, dropped = run_over(tmp_path, texts, named, bound=low, forget=True)
    assert low < high
    # The bound itself is inside; what was not measured meets every bound.
    assert set(kept) == {values.index(low), 2}
    (row,) = dropped.values()
    assert row["rejected_rule"] == "model.bits_per_byte"
    assert row["signals"]["model"]["bits_per_byte"] == high


def test_another_model_in_the_same_file_measures_anew(tmp_path):
    named = shutil.copy(a_model(), tmp_path / "m.cider")
    (before, _), _ = run_over(tmp_path, [PROSE], named), model_score.load.cache_clear()
    # Beside it and then in its place, as the first run may hold the file open.
    write_absurd(str(tmp_path / "other.cider"), {"norm": 0.5}, seed=1)
    os.replace(tmp_path / "other.cider", named)
    (after, _) = run_over(tmp_path, [PROSE], named)
    (expected,) = measure(Model.load(str(named)), [PROSE])
    assert after[0]["signals"]["model"]["bits_per_byte"] == expected.whole.per_byte
    assert before[0]["signals"]["model"]["bits_per_byte"] != expected.whole.per_byte


def test_windows_of_two_tokens_are_measured(model):
    (found,) = measure(model, [PROSE], window=2)
    (own,) = model_score.measure([PROSE], options(window=2))
    assert own["model.bits_per_byte"] == found.whole.per_byte


def test_a_model_whose_numbers_overflow_fails_the_run_and_no_document(tmp_path):
    path = write_absurd(str(tmp_path / "m.cider"), {"norm": 3e38, "embedding": 1e20})
    with pytest.raises(StageFailure, match=r"m\.cider: what this model computes is not finite"):
        model_score.measure([PROSE], ModelOptions(file=path))
    with pytest.raises(Exception, match="what this model computes is not finite"):
        run_over(tmp_path, [PROSE, NOISE], path, bound=4.0)


def test_without_kernels_the_run_fails_rather_than_pages(tmp_path, monkeypatch):
    """With numpy a page can take longer than its cap: the machine would decide what is kept."""

    def none():
        raise NoLibrary("there is no C compiler (cc, gcc or clang)")

    monkeypatch.setattr(native, "load", none)
    model_score.load.cache_clear()
    with pytest.raises(StageFailure, match="and there are none here: there is no C compiler"):
        _build_model(options())
    model_score.load.cache_clear()


def test_a_file_that_is_missing_or_damaged_ends_the_run_before_it_begins(tmp_path, capsys):
    content = bytearray(open(a_model(), "rb").read())  # noqa: SIM115
    content[-1] ^= 1
    (tmp_path / "bad.cider").write_bytes(content)
    (tmp_path / "in.jsonl").write_text('{"text": "x"}\n')
    for name, message in (("bad", "is damaged: the digest of"), ("none", "which does not exist")):
        path = tmp_path / f"{name}.cider"
        (tmp_path / "r.yaml").write_text(RECIPE.replace("MODEL", str(path)).replace("BOUND", "4"))
        words = ["-r", str(tmp_path / "r.yaml"), "--input", str(tmp_path / "in.jsonl")]
        assert main(["curate", *words, "-o", str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
