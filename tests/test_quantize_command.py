"""``cidermill quantize`` on a small model: what it writes, what it tells, what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from quantizing_here import SHAPE, trained
from training_here import LENGTH, TEXTS

from pipelines import quantizing
from pipelines.cli import main
from pipelines.exporting import dequantized
from pipelines.own_adapters import RECOVERED
from pipelines.quantize_report import Matrix, Variant, layer_lines, worse_lines
from runtime import native
from runtime.adapter_files import BASE, CONFIG, AdapterError, read_adapter
from runtime.file import read
from runtime.layout import unpack
from runtime.palette import Palette
from runtime.shape import matrices
from trainer.model import initialise
from trainer.model_files import save_model
from trainer.optimizer import Optimizer


@pytest.fixture(scope="module")
def documents(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("documents") / "held-out.parquet"
    pq.write_table(pa.Table.from_pylist(TEXTS), path)
    return str(path)


def quantize(target: Path, *options: str, documents: str | None = None) -> int:
    run, _, shards = trained()
    given = [] if documents is None else ["--validation", documents]
    return main(
        ["quantize", str(run), "--shards", shards.folder, "--to", str(target), "--batch-tokens",
         "512", "--calibration-tokens", "1k", *given, *options]
    )  # fmt: skip


TRAINED = ("--bits", "4.5", "--tune-tokens", "4k", "--recover-tokens", "4k", "--rank", "4")


@pytest.fixture(scope="module")
def quantized(documents, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("quantized") / "m.cider"
    assert quantize(target, *TRAINED, documents=documents) == 0
    return target


def test_the_loss_of_training_is_as_the_settings_say():
    _, model, shards = trained()
    settings = quantizing.Settings(tune_tokens=4096, teacher_share=0.25)
    stage = quantizing.Stream(shards.folder, model, shards.length, settings).stage(
        "tables", 4096, Optimizer()
    )
    assert (stage.teacher_share, stage.tokens) == (0.25, 4096)


def test_the_file_is_of_the_bits_that_were_asked_for(quantized):
    contents = read(str(quantized))
    report = json.loads(quantized.with_suffix(".quantize.json").read_text())
    told = {row["name"]: row for row in report["matrices"]}
    # Measured on the file: bytes of the sections over weights.
    size = sum(contents.sizes[name] for name in told if name != "embedding")
    weights = sum(rows * columns for name, (rows, columns) in matrices(contents.shape).items()
                  if name != "embedding")  # fmt: skip
    assert 4.3 < 8 * size / weights <= 4.5
    assert {v["bits"] for v in report["variants"][1:]} == {contents.bits_per_weight()}
    for name, packed in contents.matrices.items():
        assert (told[name]["bits"], told[name]["bytes"]) == (packed.bits, contents.sizes[name])
        if name != "embedding":
            assert isinstance(unpack(packed), Palette)
            assert told[name]["divergence"] > 0
    assert len({row["bits"] for row in report["matrices"]} - {8}) > 1
    _, model, _ = trained()
    assert contents.facts["model"] == model.card["weights_sha256"]
    assert dequantized(contents).context == model.context == LENGTH
    assert report["facts"]["base"] == contents.digest  # what adapters of others are bound with
    assert contents.tokenizer.sha256 == model.tokenizer.sha256


def test_what_each_step_came_to_is_told(quantized, capsys):
    report = json.loads(quantized.with_suffix(".quantize.json").read_text())
    found = {row["name"]: row for row in report["variants"]}
    assert list(found) == [
        "float", "quantized", "tables tuned", "in the runtime", "recovered, rank 4",
        "recovered, in the runtime",
    ]  # fmt: skip
    perplexities = {name: row["perplexity"] for name, row in found.items()}
    assert perplexities["float"] != perplexities["quantized"] != perplexities["tables tuned"]
    assert perplexities["tables tuned"] != perplexities["recovered, rank 4"]
    # The kernels' activations have 8 bits, so that they come close to the same weights in floats.
    assert perplexities["in the runtime"] == pytest.approx(perplexities["tables tuned"], rel=2e-3)
    recovered = perplexities["recovered, in the runtime"]
    assert recovered == pytest.approx(perplexities["recovered, rank 4"], rel=5e-3)
    assert recovered != perplexities["in the runtime"]
    assert found["quantized"]["bytes"] == quantized.stat().st_size
    assert found["recovered, rank 4"]["bytes"] > quantized.stat().st_size
    assert report["facts"]["settings"]["tune_tokens"] == 4000


def test_the_time_of_each_matrix_is_measured_and_told(quantized):
    report = json.loads(quantized.with_suffix(".quantize.json").read_text())
    times = report["measured"]["milliseconds"]
    engine = native.load().cider_kernels(None).contents.name.decode()
    assert sorted(times) == sorted([engine, "numpy"])
    names = {row["name"] for row in report["matrices"]}
    for own in times.values():
        assert own.keys() == names
        # The embedding has ten times the weights of all others together.
        assert own["embedding"] > own["layers.0.down"] >= 0
    assert min(times["numpy"].values()) > 0
    assert quantized.with_suffix(".quantize.png").read_bytes()[:4] == b"\x89PNG"


def test_training_that_made_it_worse_is_told():
    def told(*perplexities):
        names = ("float", "quantized", "tables tuned", "in the runtime", "recovered, rank 16")
        pairs = zip(names, perplexities, strict=True)
        return worse_lines([Variant(name, 3.5, 9, found, 1.0) for name, found in pairs])

    assert told(9, 10, 9.5, 9.6, 9.5) == told(None, None, None, None, None) == []
    # Neither the floats nor the runtime's own rounding is a step of training.
    (line,) = told(9, 10, 9.5, 9.4, 9.6)
    assert line.startswith("recovered, rank 16: worse on these documents than tables tuned;")
    (line,) = told(9, 10, 10.1, 9, 9)
    assert line.startswith("tables tuned: worse on these documents than quantized;")


def test_a_table_has_a_line_for_each_layer():
    matrices = [
        Matrix("embedding", 64, 32, 8, 3000, 0.5, 0.25),
        Matrix("layers.0.q", 32, 32, 4, 500, 0.25, -1.0),
        Matrix("layers.0.down", 32, 32, 3, 400, 0.5, 0.5),
    ]
    times = {"avx2": {"embedding": 3.0, "layers.0.q": 0.25, "layers.0.down": 0.5}}
    found = [line.split() for line in layer_lines(matrices, times)]
    assert found == [
        ["bits", "q", "down", "bytes", "ms", "avx2", "divergence", "loss", "change"],
        ["embedding", "8", "3000", "3.0000", "0.50000", "+0.25000"],
        ["layers.0", "4", "3", "900", "0.7500", "0.75000", "-0.50000"],
    ]
    # What was not measured has no column; a layer of which it was not, no number.
    unknown = [replace(own, loss=None) for own in matrices]
    assert "loss change" not in layer_lines(unknown, times)[0]
    unknown[0] = replace(unknown[0], divergence=None)
    found = [line.split() for line in layer_lines(unknown, {})]
    assert found[1:] == [["embedding", "8", "3000"], ["layers.0", "4", "3", "900", "0.75000"]]


def test_the_adapter_is_for_this_base_alone(quantized):
    contents = read(str(quantized))
    folder = str(quantized.with_suffix(".recovery"))
    adapter = read_adapter(folder, contents.digest, matrices(contents.shape))
    assert len(adapter.factors) == 7 * len(SHAPE.layers)
    assert all(b.any() for _, b in adapter.factors.values())
    with pytest.raises(AdapterError, match="is for the base"):
        read_adapter(folder, "0" * 64)


def test_the_same_command_gives_the_same_bytes(quantized, documents, tmp_path, capsys):
    assert quantize(tmp_path / "m.cider", *TRAINED, documents=documents) == 0
    printed = capsys.readouterr().out
    assert "layers.0" in printed
    assert "recovered, rank 4" in printed
    assert_same(tmp_path, quantized.parent)
    assert sorted(os.listdir(tmp_path)) == [
        "m.cider", "m.quantize.json", "m.quantize.png", "m.recovery"
    ]  # fmt: skip


def test_a_command_that_was_ended_goes_on_to_the_same_bytes(
    quantized, documents, tmp_path, monkeypatch, capsys
):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    def again(done: tuple[str, ...], broken: str | None) -> int:
        with monkeypatch.context() as patched:
            for name in done:
                patched.delattr(quantizing, name)
            if broken is not None:
                patched.setattr(quantizing, broken, stop)
            return quantize(tmp_path / "m.cider", *TRAINED, documents=documents)

    # Each time what was done before cannot be done again: the functions are not there.
    assert again((), "tune") == 130
    assert again(("measure",), "recovery") == 130
    assert "palettes and sensitivity: done before" in capsys.readouterr().err
    assert again(("measure", "tune"), None) == 0
    assert_same(tmp_path, quantized.parent)
    assert not (tmp_path / "m.quantize.work").exists()
    reports = [
        json.loads((folder / "m.quantize.json").read_text())
        for folder in (tmp_path, quantized.parent)
    ]
    for report in reports:
        assert set(report.pop("measured")["seconds"]) == {
            "judging", "measuring", "tuning", "recovery", "timing"
        }  # fmt: skip
    assert reports[0] == reports[1]


def test_an_adapter_of_the_model_that_was_replaced_goes_with_it(quantized, tmp_path, capsys):
    shutil.copytree(quantized.parent, tmp_path / "a")
    target = tmp_path / "a" / "m.cider"
    shutil.copytree(tmp_path / "a" / "m.recovery", tmp_path / "a" / "m.own")
    assert quantize(target, "--int8") == 0
    assert "m.recovery was for the model that is replaced: removed" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path / "a")) == [
        "m.cider", "m.own", "m.quantize.json", "m.quantize.png"
    ]  # fmt: skip
    # One that is for the very model, for one that was moved, or that another made, stays.
    shutil.copytree(quantized.parent / "m.recovery", tmp_path / "a" / "n.recovery")
    assert quantize(tmp_path / "a" / "n.cider", "--int8") == 0
    assert (tmp_path / "a" / "n.recovery").is_dir()
    config = json.loads((tmp_path / "a" / "m.own" / CONFIG).read_text())
    fitting = {**config, BASE: read(str(target)).digest}
    foreign = {field: value for field, value in config.items() if field != RECOVERED}
    for own in (fitting, foreign):
        shutil.copytree(tmp_path / "a" / "m.own", tmp_path / "a" / "m.recovery")
        (tmp_path / "a" / "m.recovery" / CONFIG).write_text(json.dumps(own))
        assert quantize(target, "--int8") == 0
        shutil.rmtree(tmp_path / "a" / "m.recovery")


def assert_same(folder: Path, other: Path) -> None:
    for name in ("m.cider", "m.recovery/adapter_model.safetensors",
                 "m.recovery/adapter_config.json"):  # fmt: skip
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name


def test_eight_bits_by_row(tmp_path, capsys):
    assert quantize(tmp_path / "m.cider", "--int8") == 0
    contents = read(str(tmp_path / "m.cider"))
    assert {packed.bits for packed in contents.matrices.values()} == {8}
    assert not (tmp_path / "m.recovery").exists()
    report = json.loads((tmp_path / "m.quantize.json").read_text())
    assert [row["name"] for row in report["variants"]] == ["float", "quantized"]
    assert report["variants"][1]["perplexity"] is None
    assert "set no documents aside" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--bits", "2"),
            r"2 bits a weight; with their tables .* take 2\.\d+ at least",
        ),
        (("--bits", "x"), "--bits is 'x'"),
        (("--bits", "9"), r"9 bits a weight; with 4 in every matrix these have [4-8]\.\d+, tables"),
        (("--int8", "--bits", "3"), "--bits is the mean of palettes; leave it out with --int8"),
        (("--int8", "--tune-tokens", "4k"), "no tables to tune"),
        (
            ("--recover-tokens", "4k", "--rank", "17"),
            "a rank of 17; adapters of this model have 1 to 16, for layers.0.k is 16 times 32",
        ),
        (("--rank", "0"), "rank is 0; it must be at least 1"),
        (("--seed", "-1"), "seed is -1; it must be at least 0"),
        (("--teacher-share", "1.1"), "teacher_share is 1.1; it must be from 0 to 1"),
        (("--validation-tokens", "0"), "--validation-tokens is 0; it must be at least 1"),
        (("--validation", "none.parquet"), "cannot read none.parquet"),
    ],
)
def test_what_is_refused(tmp_path, capsys, options, message):
    assert quantize(tmp_path / "m.cider", "--recover-tokens", "0", *options) == 2
    assert not (tmp_path / "m.cider").exists()
    error = capsys.readouterr().err
    assert re.search(message, error), error


@pytest.mark.parametrize(
    ("there", "content", "message"),
    [
        ("m.cider", b"years of work", "m.cider is there, is no .cider model and would be lost"),
        ("m.quantize.json", b"{}", "m.quantize.json is there, is no report of `quantize`"),
        ("m.quantize.png", b"\x89PNG", "m.quantize.png is there, is no picture of such a report"),
        ("m.quantize.work/a.txt", b"x", "m.quantize.work is there, is no unfinished work"),
        ("m.recovery/adapter_config.json", b'{"peft_type": "LORA"}',
         "m.recovery is there, is no adapter of `quantize` alone and would be lost; name another"),
        ("m.recovery/a.txt", b"x", "m.recovery is there, is no adapter of `quantize` alone"),
    ],
)  # fmt: skip
def test_what_another_wrote_is_not_lost(tmp_path, capsys, there, content, message):
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).write_bytes(content)
    assert quantize(tmp_path / "m.cider", *TRAINED) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()] == [
        Path(there)
    ]
    assert (tmp_path / there).read_bytes() == content


def test_a_model_that_kernels_do_not_take_and_places_that_cannot_be_written(tmp_path, capsys):
    _, model, shards = trained()
    odd = replace(SHAPE, width=16)
    save_model(str(tmp_path / "odd"), initialise(odd, 0), odd, model.tokenizer, {})
    assert main(["quantize", str(tmp_path / "odd"), "--shards", shards.folder]) == 2
    assert "width is 16; the kernels take multiples of 32" in capsys.readouterr().err
    assert quantize(tmp_path) == 2
    assert "a folder; name a file" in capsys.readouterr().err
    assert quantize(tmp_path / "no" / "m.cider") == 2
    assert "there is no folder" in capsys.readouterr().err
