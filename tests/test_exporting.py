"""Exports of quantized models and of their adapters: the same numbers in the formats of others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize
from models_here import SHAPE, float_logits, write_model
from safetensors.numpy import load_file
from tokenizers_here import small_tokenizer

from pipelines.cli import main
from runtime.adapter_files import read_adapter, write_adapter
from runtime.file import read
from runtime.layout import unpack
from runtime.shape import Layer, Shape, matrices

SHAPES = {
    "qwen3": Shape(2000, 64, 32, (Layer(2, 1, 96), Layer(2, 1, 96)), 5e5, 1e-6),
    "openelm": SHAPE,
}
IDS = [70, 300, 71, 533, 325]


@pytest.fixture(scope="module", params=SHAPES)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folder(kind, tmp_path_factory):
    """A model ``m.cider`` and an adapter ``a`` of most of its maps, half as large as these."""
    folder = tmp_path_factory.mktemp(kind)
    contents = read(write_model(str(folder / "m.cider"), SHAPES[kind]))
    rng = np.random.Generator(np.random.PCG64(1))
    factors = {
        name: (rng.standard_normal((4, dims[1]), np.float32) / np.float32(dims[1] ** 0.5),
               rng.standard_normal((dims[0], 4), np.float32) / 4)
        for name, dims in matrices(contents.shape).items()
        if name not in ("embedding", "layers.0.k", "layers.1.gate")
    }  # fmt: skip
    write_adapter(str(folder / "a"), factors, contents.digest, alpha=6)
    return folder


def exported(folder, capsys, *words):
    assert main(["export", str(folder / "m.cider"), *words]) == 0
    return capsys.readouterr().out.strip()


def in_llama_cpp(path, **options):
    pytest.importorskip("xllamacpp", reason="xllamacpp, of the extra `test`, is not installed")
    from benchmarks.llama_cpp import LlamaCpp

    return LlamaCpp(path, small_tokenizer(), context=64, **options).each(IDS)


def expected(folder, adapter=None):
    logits = float_logits(read(str(folder / "m.cider")), IDS, adapter)[0]
    top = logits.max(1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))


def test_an_adapter_computes_in_llama_cpp_what_it_computes_here(folder, capsys, tmp_path):
    """In 16 bits, beside a base that is off by what 16 bits cost."""
    contents = read(str(folder / "m.cider"))
    adapter = read_adapter(str(folder / "a"), contents.digest)
    base = exported(folder, capsys, "--format", "gguf-f16")
    lora = exported(folder, capsys, "--format", "gguf-lora", "--adapter", str(folder / "a"))
    assert (base, lora) == (str(folder / "m-f16.gguf"), str(folder / "a.gguf"))
    own, plain = expected(folder, adapter), expected(folder)
    assert np.abs(own - plain).max() > 0.5
    np.testing.assert_allclose(in_llama_cpp(base), plain, atol=2e-2)
    np.testing.assert_allclose(in_llama_cpp(base, adapter=lora), own, atol=2e-2)
    to = str(tmp_path / "merged.gguf")
    words = ("--format", "gguf-f16", "--adapter", str(folder / "a"), "--to", to)
    assert exported(folder, capsys, *words) == to
    np.testing.assert_allclose(in_llama_cpp(to), own, atol=2e-2)


def test_an_adapters_file_says_what_it_is(kind, folder, capsys, tmp_path):
    to = str(tmp_path / "a.gguf")
    exported(folder, capsys, "--format", "gguf-lora", "--adapter", str(folder / "a"), "--to", to)
    reader = gguf.GGUFReader(to)
    facts = {name: field.contents() for name, field in reader.fields.items()}
    assert facts["general.type"] == "adapter"
    assert facts["general.architecture"] == kind
    assert facts["adapter.type"] == "lora"
    assert facts["adapter.lora.alpha"] == 6
    found = {tensor.name: tensor.data for tensor in reader.tensors}
    own = read_adapter(str(folder / "a"), read(str(folder / "m.cider")).digest).factors
    a, b = own["layers.1.down"]
    assert np.array_equal(found["blk.1.ffn_down.weight.lora_a"], a)
    assert np.array_equal(found["blk.1.ffn_down.weight.lora_b"], b)
    assert "blk.1.ffn_gate.weight.lora_a" not in found
    if kind == "openelm":
        a, b = (found[f"blk.0.attn_qkv.weight.lora_{letter}"] for letter in "ab")
        products = [own[f"layers.0.{n}"][1] @ own[f"layers.0.{n}"][0] for n in "qv"]
        wanted = np.concatenate([products[0], np.zeros((64, 96)), products[1]])
        np.testing.assert_allclose(b @ a * 4 / len(a), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("words", "step"), [("f16", 2.0**-11), ("q8_0", 2.0**-8)])
def test_a_gguf_holds_the_weights_that_the_palettes_stand_for(folder, capsys, words, step):
    path = exported(folder, capsys, "--format", f"gguf-{words}")
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    contents = read(str(folder / "m.cider"))
    for name, own in (("token_embd", "embedding"), ("blk.1.ffn_up", "layers.1.up")):
        tensor, wanted = tensors[f"{name}.weight"], unpack(contents.matrices[own]).dequantized()
        assert tensor.tensor_type.name == words.upper()
        held = dequantize(tensor.data, tensor.tensor_type).reshape(wanted.shape)
        np.testing.assert_allclose(held, wanted, rtol=0, atol=step * np.abs(wanted).max())


def test_safetensors_hold_the_weights_that_the_palettes_stand_for(kind, folder, capsys):
    path = exported(folder, capsys)
    assert path == str(folder / "m-hf")
    found = load_file(f"{path}/model.safetensors")
    contents = read(str(folder / "m.cider"))
    wanted = unpack(contents.matrices["layers.1.down"]).dequantized()
    name = "model.layers.1.mlp.down_proj" if kind == "qwen3" else "transformer.layers.1.ffn.proj_2"
    assert np.array_equal(found[f"{name}.weight"], wanted)
    both = exported(folder, capsys, "--adapter", str(folder / "a") + "/")
    assert both == str(folder / "a-hf")  # another model than the base's export
    a, b = read_adapter(str(folder / "a"), contents.digest).factors["layers.1.down"]
    merged = load_file(f"{both}/model.safetensors")[f"{name}.weight"]
    np.testing.assert_allclose(merged, wanted + 1.5 * b @ a, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("words", [("gguf-f16",), ("gguf-lora", "--adapter"), ("hf",)])
def test_a_full_disk_leaves_nothing_and_is_told_with_the_file(folder, capsys, tmp_path, words):
    """The model is larger than files may be; a child, as its limit is for good."""
    own = [str(folder / "a")] * (len(words) - 1)
    given = [
        "export",
        str(folder / "m.cider"),
        "--format",
        *words,
        *own,
        "--to",
        str(tmp_path / "x"),
    ]
    code = (
        "import resource, signal, sys\nfrom pipelines.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))\nsys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *given], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert str(tmp_path / "x") in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("facts", "context"), [({}, 32_768), ({"context": 128}, 128)])
def test_the_window_of_the_training_is_told(kind, facts, context, capsys, tmp_path):
    write_model(str(tmp_path / "m.cider"), SHAPES[kind], **facts)
    config = json.loads(Path(exported(tmp_path, capsys), "config.json").read_text())
    name = "max_position_embeddings" if kind == "qwen3" else "max_context_length"
    assert config[name] == context
    reader = gguf.GGUFReader(exported(tmp_path, capsys, "--format", "gguf-f16"))
    assert reader.fields[f"{kind}.context_length"].contents() == context


@pytest.mark.parametrize("value", [0, -1, 1 << 31, 128.0, True, "128", [128]])
def test_a_window_that_is_none_is_one_line(value, capsys, tmp_path):
    path = write_model(str(tmp_path / "m.cider"), context=value)
    assert main(["export", path]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{path}: the fact 'context' is " in error
    assert not (tmp_path / "m-hf").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--format", "gguf-lora"], "writes an adapter; give --adapter"),
        (["--adapter", "{}/none"], "cannot be read"),
        (["--format", "gguf-f16", "--to", "{}/m.cider"], "m.cider is read and would be lost"),
        (["--format", "gguf-f16", "--to", "{}/link"], "m.cider, which is read and would be lost"),
        (["--to", "{}/m.cider"], "the model itself"),
        (["--to", "{}/a"], "is there and is no exported model"),
        (["--format", "gguf-f16", "--to", "{}/no/m.gguf"], "and there is no folder"),
    ],
)
def test_wrong_use_is_one_line(folder, capsys, words, says):
    before = (folder / "m.cider").read_bytes()
    if not (folder / "link").exists():
        (folder / "link").symlink_to(folder / "m.cider")
    command = ["export", str(folder / "m.cider"), *(word.format(folder) for word in words)]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error
    assert (folder / "m.cider").read_bytes() == before
