"""Exports: GGUF computes in llama.cpp what the model computes; names, shapes and files of both."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from gguf.quants import dequantize, quantize
from safetensors.numpy import load_file
from tokenizers_here import own_texts, small_tokenizer
from training_here import random_model

from tokenizer.special import EOS_ID, PAD_ID
from trainer import model as model_module
from trainer.export_gguf import export_gguf, tensors
from trainer.export_hf import export_hf, openelm_config
from trainer.model import Windows, hidden_states
from trainer.model_files import Model, load_model, save_model
from trainer.safe_file import save_arrays
from trainer.shape import PRESETS, Layer, Shape, make_divisible, openelm, preset

PLACES = 32
Q8_0 = gguf.GGMLQuantizationType.Q8_0
# Rows of 16, which are no whole block of Q8_0, are among the second's.
SHAPES = {
    "qwen3": Shape(2000, 32, 8, (Layer(4, 2, 64),) * 2),
    "openelm": Shape(2000, 32, 8, (Layer(2, 1, 64), Layer(4, 2, 96)), rope_base=10_000.0),
}


@pytest.fixture(scope="module", params=SHAPES)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(kind) -> Model:
    return random_model(SHAPES[kind], gain=0.5)


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return small_tokenizer().encode(own_texts()[3])[:PLACES].astype(np.int32)


def log_probabilities(
    model: Model, ids: np.ndarray, last=lambda hidden: hidden, segments: np.ndarray | None = None
) -> np.ndarray:
    """Of what follows each place; ``last`` is done to what the output layer gets.

    With ``segments`` all different, each token is alone, and its place says nothing.
    """
    own = np.ones_like(ids) if segments is None else segments

    @jax.jit
    def run(params):
        row = jnp.asarray(ids)[None]
        windows = Windows(row, jnp.asarray(own)[None], jnp.arange(len(ids))[None])
        hidden = last(hidden_states(params, model.shape, windows)[0])
        return jax.nn.log_softmax(hidden @ params["embedding"].T)

    return np.asarray(run({name: jnp.asarray(value) for name, value in model.params.items()}))


def in_llama_cpp(model: Model, folder: Path, kind: str):
    pytest.importorskip("xllamacpp", reason="xllamacpp, of the extra `test`, is not installed")
    from benchmarks.llama_cpp import LlamaCpp

    path = folder / f"model-{kind}.gguf"
    export_gguf(model, str(path), kind)
    assert [p.name for p in folder.iterdir()] == [path.name]
    return LlamaCpp(str(path), model.tokenizer, context=256)


def same_first_choice(found: np.ndarray, expected: np.ndarray) -> None:
    """Drawn weights have places where two tokens are nearer to each other than the bound of 1e-2;
    those are left out. Of a trained model ``benchmarks/exports.py`` compares all places."""
    second, first = np.sort(expected, -1)[:, -2:].T
    clear = first - second > 2e-2
    assert clear.mean() > 0.6
    np.testing.assert_array_equal(found.argmax(-1)[clear], expected.argmax(-1)[clear])


def test_f16_gives_the_models_probabilities_in_llama_cpp(model, ids, tmp_path):
    llama = in_llama_cpp(model, tmp_path, "f16")
    found, expected = llama.each(ids), log_probabilities(model, ids)
    np.testing.assert_allclose(found, expected, atol=1e-2)
    same_first_choice(found, expected)
    # The same of a text: its tokenizer finds the same ids.
    for text in ("The words,\n\tand été, 東京. ", "  two spaces", "    x = f(1000)\n\n\n"):
        alone = llama.following(model.tokenizer.encode(text))
        np.testing.assert_allclose(llama.following(text), alone, atol=5e-3)


def in_blocks(x: jax.Array) -> jax.Array:
    """Values as Q8_0 holds them, a scale for 32, or as F16 where rows are no whole blocks."""
    if x.shape[-1] % 32:
        return x.astype(jnp.float16).astype(jnp.float32)
    blocks = x.reshape(*x.shape[:-1], -1, 32)
    top = jnp.abs(blocks).max(-1, keepdims=True)
    whole = jnp.round(blocks * (127 / jnp.where(top == 0, 1, top)))
    return (whole * (top / 127).astype(jnp.float16).astype(jnp.float32)).reshape(x.shape)


def held_in_q8_0(model: Model) -> Model:
    """The model with the weights that its Q8_0 file holds."""

    def held(name: str, value: np.ndarray) -> np.ndarray:
        if value.ndim == 1:
            return value
        rows = np.ascontiguousarray(value if name == "embedding" else value.T)
        if rows.shape[1] % 32:
            rows = rows.astype(np.float16).astype(np.float32)
        else:
            rows = dequantize(quantize(rows, Q8_0), Q8_0)
        return rows if name == "embedding" else rows.T

    return replace(model, params={name: held(name, v) for name, v in model.params.items()})


def test_q8_0_gives_the_models_probabilities_in_llama_cpp(model, ids, tmp_path, monkeypatch):
    """llama.cpp multiplies weights in Q8_0 by values in Q8_0, so that is compared with."""
    llama = in_llama_cpp(model, tmp_path, "q8_0")
    found, plain = llama.each(ids[:16]), log_probabilities(model, ids[:16])
    assert np.abs(found - plain).mean() < 0.03
    monkeypatch.setattr(model_module, "linear", lambda x, weight: in_blocks(x) @ weight)
    held = held_in_q8_0(model)
    expected = log_probabilities(held, ids[:16], in_blocks)
    np.testing.assert_allclose(found, expected, atol=0.1)
    # Exactly so, but where a value lies between two steps and rounds the other way. Of one token
    # each, so that such a value does not move what is behind it.
    found = np.stack([llama.following([number]) for number in ids[16:]])
    expected = log_probabilities(held, ids[16:], in_blocks, segments=np.arange(16))
    assert (np.abs(found - expected).max(-1) < 1e-3).mean() > 0.7
    same_first_choice(found, expected)


def written(path: Path) -> tuple[dict, dict]:
    reader = gguf.GGUFReader(path)
    facts = {name: field.contents() for name, field in reader.fields.items()}
    return facts, {tensor.name: tensor for tensor in reader.tensors}


def test_the_context_is_the_longest_window_of_the_training(kind, model, tmp_path):
    assert model.context == 32_768
    card = {"training": {"stages": [{"length": 64}, {"length": 256}, {"length": 128}]}}
    model = replace(model, card=card)
    export_gguf(model, str(tmp_path / "m.gguf"), "f16")
    assert written(tmp_path / "m.gguf")[0][f"{kind}.context_length"] == 256
    export_hf(model, str(tmp_path / "hf"))
    config, tokenizer = (
        json.loads((tmp_path / "hf" / name).read_text())
        for name in ("config.json", "tokenizer_config.json")
    )
    name = "max_position_embeddings" if kind == "qwen3" else "max_context_length"
    assert (config[name], tokenizer["model_max_length"]) == (256, 256)


@pytest.mark.parametrize("bits", ["f16", "q8_0"])
def test_a_gguf_holds_every_weight_and_what_it_is(kind, model, bits, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"an earlier one")
    export_gguf(model, str(path), bits)
    assert [p.name for p in tmp_path.iterdir()] == ["model.gguf"]
    facts, found = written(path)
    assert facts["general.architecture"] == kind
    layers = model.shape.layers
    for name, values in (
        ("attention.head_count", [layer.heads for layer in layers]),
        ("attention.head_count_kv", [layer.kv_heads for layer in layers]),
        ("feed_forward_length", [layer.hidden for layer in layers]),
    ):
        assert facts[f"{kind}.{name}"] == (values[0] if kind == "qwen3" else values)
    assert facts[f"{kind}.rope.freq_base"] == model.shape.rope_base
    assert facts[f"{kind}.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)
    assert facts["tokenizer.ggml.eos_token_id"] == EOS_ID
    assert facts["tokenizer.ggml.tokens"] == [p.replace(" ", "▁") for p in small_tokenizer().pieces]
    assert facts["tokenizer.ggml.scores"] == pytest.approx(small_tokenizer().scores)
    expected = tensors(model)
    assert set(found) == set(expected)
    for name, value in expected.items():
        tensor = found[name]
        held = dequantize(tensor.data, tensor.tensor_type).reshape(value.shape)
        wanted = "F32" if value.ndim == 1 else "F16"
        step = np.float32(0.0) if value.ndim == 1 else np.abs(value) * 2.0**-11 + 1e-7
        if bits == "q8_0" and value.ndim == 2 and value.shape[1] % 32 == 0:
            wanted = "Q8_0"
            tops = np.abs(value.reshape(value.shape[0], -1, 32)).max(-1)
            step = np.repeat(tops / 127 * 0.5 + tops * 2.0**-11, 32, axis=1)
        assert tensor.tensor_type.name == wanted
        assert (np.abs(held - value) <= step).all()
    rows = {t.tensor_type.name for n, t in found.items() if "attn_output" in n}
    # The first layer of the second has rows of 16, which stay in F16.
    assert rows == ({"F16"} if bits == "f16" else {"Q8_0"} if kind == "qwen3" else {"F16", "Q8_0"})


def test_queries_keys_and_values_lie_behind_each_other():
    model = random_model(SHAPES["openelm"])
    found, params = tensors(model), model.params
    fused = found["blk.1.attn_qkv.weight"]
    assert fused.shape == (4 * 8 + 2 * 8 + 2 * 8, 32)
    np.testing.assert_array_equal(fused[:32], params["layers.1.q"].T)
    np.testing.assert_array_equal(fused[32:48], params["layers.1.k"].T)
    np.testing.assert_array_equal(fused[48:], params["layers.1.v"].T)


def heads_as_openelm_reads_them(config: dict) -> list[int]:
    """Query heads by layer of a configuration, by the rule of OpenELM's own code."""
    first, last = config["qkv_multipliers"]
    count, divisor = config["num_transformer_layers"], config["head_dim"] * config["num_gqa_groups"]
    shares = [round(float(v), 2) for v in np.linspace(first, last, num=count, dtype=float)]
    widths = [make_divisible(config["model_dim"] * share, divisor) for share in shares]
    return [width // config["head_dim"] for width in widths]


@pytest.mark.parametrize(
    "shape",
    [
        *(openelm(size) for size in ("270m", "450m", "1.1b", "3b")),
        *(preset(size, 2048, layer_wise=True) for size in PRESETS),
        Shape(2000, 32, 8, (Layer(2, 1, 64), Layer(4, 2, 96))),
        # What pruning leaves of equal layers.
        Shape(2000, 96, 32, (Layer(3, 1, 64), Layer(3, 1, 96), Layer(3, 1, 32))),
    ],
)
def test_openelm_s_code_reads_the_same_heads(shape):
    config = openelm_config(shape, 512)
    assert heads_as_openelm_reads_them(config) == [layer.heads for layer in shape.layers]
    assert config["num_query_heads"] == heads_as_openelm_reads_them(config)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((Layer(2, 1, 8), Layer(8, 4, 8), Layer(2, 1, 8)), r"heads of \[2, 8, 2\]: OpenELM's"),
        ((Layer(2, 1, 8), Layer(2, 2, 8)), "one number of query heads for each key-value head"),
    ],
)
def test_heads_that_openelm_s_layout_cannot_tell_are_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        openelm_config(Shape(100, 64, 8, layers), 512)


def test_a_file_that_cannot_be_written_is_an_error_of_the_system(tmp_path):
    with pytest.raises(OSError, match="cannot be written"):
        save_arrays({"a": np.zeros(3)}, str(tmp_path / "none" / "a.safetensors"))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hf") / "model"
    export_hf(model, str(folder))
    return folder


def test_the_folder_has_what_transformers_loads(kind, model, folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer.model", "tokenizer_config.json",
    ]  # fmt: skip
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == kind
    assert (config["vocab_size"], config["head_dim"]) == (2000, 8)
    assert (config["eos_token_id"], config["pad_token_id"]) == (EOS_ID, PAD_ID)
    assert config["dtype"] == config["torch_dtype"] == "float32"
    own = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in own_texts()[:3]:
        assert own.encode(text).ids == small_tokenizer().encode(text).tolist()
    assert (folder / "tokenizer.model").read_bytes() == small_tokenizer().content
    if kind == "qwen3":
        assert config["architectures"] == ["Qwen3ForCausalLM"]
        assert config["tie_word_embeddings"] is True
        assert config["attention_bias"] is False
        assert (config["hidden_size"], config["intermediate_size"]) == (32, 64)
        assert (config["num_attention_heads"], config["num_key_value_heads"]) == (4, 2)
        assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 500_000.0
    else:
        assert config["num_query_heads"] == [2, 4]
        assert config["num_kv_heads"] == [1, 2]
        assert config["num_gqa_groups"] == 2
        assert config["rope_freq_constant"] == 10_000.0
        hidden = [round(m * config["model_dim"]) for m in config["ffn_multipliers"]]
        assert hidden == [64, 96]
        assert all(width % config["ffn_dim_divisor"] == 0 for width in hidden)


def test_the_folder_has_the_weights_by_their_names(kind, model, folder):
    found = load_file(folder / "model.safetensors")
    params = model.params
    if kind == "qwen3":
        own, first = "model.layers.1", "model.embed_tokens.weight"
        pairs = {
            "input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm",
            "self_attn.q_proj": "q", "self_attn.k_proj": "k", "self_attn.v_proj": "v",
            "self_attn.o_proj": "o", "self_attn.q_norm": "q_norm", "self_attn.k_norm": "k_norm",
            "mlp.gate_proj": "gate", "mlp.up_proj": "up", "mlp.down_proj": "down",
        }  # fmt: skip
        expected = {name: params[f"layers.1.{ours}"].T for name, ours in pairs.items()}
    else:
        own, first = "transformer.layers.1", "transformer.token_embeddings.weight"
        joined = {"attn.qkv_proj": ("q", "k", "v"), "ffn.proj_1": ("gate", "up")}
        pairs = {
            "attn_norm": "attention_norm", "ffn_norm": "ffn_norm", "attn.q_norm": "q_norm",
            "attn.k_norm": "k_norm", "attn.out_proj": "o", "ffn.proj_2": "down",
        }  # fmt: skip
        expected = {name: params[f"layers.1.{ours}"].T for name, ours in pairs.items()}
        expected |= {
            name: np.concatenate([params[f"layers.1.{n}"].T for n in names])
            for name, names in joined.items()
        }
    assert len(found) == 2 + 2 * len(expected)
    np.testing.assert_array_equal(found[first], params["embedding"])
    for name, value in expected.items():
        np.testing.assert_array_equal(found[f"{own}.{name}.weight"], value, err_msg=name)


def test_half_the_bytes_and_an_earlier_folder(tmp_path):
    folder = tmp_path / "hf"
    folder.mkdir()
    (folder / "of-an-earlier-one").write_text("")
    model = random_model(SHAPES["qwen3"])
    export_hf(model, f"{folder}/", "float16")
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]
    assert not (folder / "of-an-earlier-one").exists()
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float16"
    found = load_file(folder / "model.safetensors")
    assert {value.dtype for value in found.values()} == {np.dtype("float16")}
    np.testing.assert_allclose(
        found["model.embed_tokens.weight"], model.params["embedding"], rtol=1e-3, atol=1e-7
    )


def test_a_model_that_was_stored_exports_the_same_bytes(model, tmp_path):
    save_model(str(tmp_path / "model"), model.params, model.shape, model.tokenizer, {})
    for name, held in (("a", model), ("b", load_model(str(tmp_path / "model")))):
        export_gguf(held, str(tmp_path / f"{name}.gguf"), "q8_0")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
