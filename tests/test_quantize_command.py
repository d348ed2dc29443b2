"""``cidermill quantize`` on a small model: what it writes, what it tells, what it refuses."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from quantizing_here import SHAPE, trained
from training_here import TEXTS

from pipelines.cli import main
from runtime.adapter_files import AdapterError, read_adapter
from runtime.file import read
from runtime.layout import unpack
from runtime.palette import Palette
from runtime.shape import matrices
from trainer.model import initialise
from trainer.model_files import save_model


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
    assert contents.tokenizer.sha256 == model.tokenizer.sha256


def test_what_each_step_came_to_is_told(quantized, capsys):
    report = json.loads(quantized.with_suffix(".quantize.json").read_text())
    found = {row["name"]: row for row in report["variants"]}
    assert list(found) == [
        "float", "quantized", "tables tuned", "in the runtime", "recovered, rank 4",
    ]  # fmt: skip
    perplexities = {name: row["perplexity"] for name, row in found.items()}
    assert perplexities["float"] != perplexities["quantized"] != perplexities["tables tuned"]
    assert perplexities["tables tuned"] != perplexities["recovered, rank 4"]
    # The kernels' activations have 8 bits, so that they come close to the same weights in floats.
    assert perplexities["in the runtime"] == pytest.approx(perplexities["tables tuned"], rel=2e-3)
    assert found["quantized"]["bytes"] == quantized.stat().st_size
    assert found["recovered, rank 4"]["bytes"] > quantized.stat().st_size
    assert report["facts"]["settings"]["tune_tokens"] == 4000


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
    for name in ("m.cider", "m.recovery/adapter_model.safetensors",
                 "m.recovery/adapter_config.json"):  # fmt: skip
        assert (tmp_path / name).read_bytes() == (quantized.parent / name).read_bytes(), name


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
        (("--int8", "--tune-tokens", "4k"), "no tables to tune"),
        (("--rank", "0"), "rank is 0; it must be at least 1"),
        (("--validation", "none.parquet"), "cannot read none.parquet"),
    ],
)
def test_what_is_refused(tmp_path, capsys, options, message):
    assert quantize(tmp_path / "m.cider", "--recover-tokens", "0", *options) == 2
    assert not (tmp_path / "m.cider").exists()
    error = capsys.readouterr().err
    assert re.search(message, error), error


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
