"""The runtime beside the trainer's model in JAX, which rounds what the runtime rounds.

With the weights that a file stands for, inputs of linear maps in 8 bits and keys and values as the
cache holds them, what is left are sums of floats in another order: a ten-millionth of the logits. A
number that lies at the middle between two whole ones may go the other way for it, and then this
token and those behind it in the text differ by a hundredth. So texts are short and many, and most
tokens must agree to float precision.
"""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from models_here import SHAPE, write_model

import trainer.model
from pipelines.exporting import dequantized
from runtime.file import read
from runtime.model import Model
from runtime.shape import Layer, Shape

SHAPES = {
    "uniform": Shape(2000, 64, 32, (Layer(2, 1, 96), Layer(2, 1, 96)), 5e5, 1e-6),
    "layer-wise": SHAPE,
}
LENGTH = 16
CLOSE = 1e-5
"""Of a token: the root mean square of the difference over that of the logits. Measured:
6e-7, few to 7e-6."""
MOST = 0.6
"""Share of tokens that must be as close. Measured on twelve models: 0.77 to 1."""
ROUNDED = 0.02
"""What tokens may differ by where something was rounded the other way. Measured: 0.013."""


def eight_bits(x):
    """Vectors as docs/cider.md tells: whole numbers from -127 to 127 and one scale."""
    most = jnp.abs(x).max(-1, keepdims=True)
    return jnp.rint(x * (127 / most)) * (most / 127)


def half(x):
    return x.astype(jnp.float16).astype(jnp.float32)


def texts(length: int) -> np.ndarray:
    """112 tokens of the vocabulary, drawn, in texts of a length."""
    return np.random.Generator(np.random.PCG64(0)).integers(0, 2000, 112).reshape(-1, length)


def reference(monkeypatch, path: str, bits: int, rows: np.ndarray, times: dict) -> np.ndarray:
    """Logits of the trainer's model: (texts, tokens, vocabulary).

    Args:
      times: what parameters or numbers of the shape are multiplied by, by name.
    """
    model = dequantized(read(path))
    attend, cached = trainer.model.attend, {16: half, 8: eight_bits}[bits]
    params = {
        name: jnp.asarray(own * np.float32(times.get(name, 1)))
        for name, own in model.params.items()
    }
    numbers = {name: getattr(model.shape, name) * times.get(name, 1)
               for name in ("norm_eps", "rope_base")}  # fmt: skip
    places = jnp.broadcast_to(jnp.arange(rows.shape[1]), rows.shape)
    windows = trainer.model.Windows(jnp.asarray(rows), jnp.ones_like(places), places)
    with monkeypatch.context() as patched:
        patched.setattr(
            trainer.model, "attend", lambda q, k, v, *other: attend(q, cached(k), cached(v), *other)
        )
        hidden = trainer.model.hidden_states(
            params, replace(model.shape, **numbers), windows,
            apply=lambda own, name, x: eight_bits(x) @ own[name],
        )  # fmt: skip
    return np.asarray(eight_bits(hidden) @ params["embedding"].T)


def runtime(path: str, bits: int, rows: np.ndarray) -> np.ndarray:
    model = Model.load(path, threads=1, context=256, cache_bits=bits)
    return np.stack([model.logits(row.tolist()) for row in rows])


def errors(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Of each token: root mean squares over the vocabulary, of the difference over the logits."""
    return np.sqrt(((found - wanted) ** 2).mean(-1) / (wanted**2).mean(-1))


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_those_of_the_model_that_was_trained(tmp_path, monkeypatch, shape, bits):
    path = write_model(str(tmp_path / "m.cider"), SHAPES[shape])
    rows = texts(LENGTH)
    wanted, found = reference(monkeypatch, path, bits, rows, {}), runtime(path, bits, rows)
    close = errors(found, wanted) < CLOSE
    assert close.mean() >= MOST
    difference = np.abs(found - wanted).max(-1) / np.abs(wanted).max(-1)
    assert difference[close].max() < CLOSE
    np.testing.assert_array_equal(found.argmax(-1)[close], wanted.argmax(-1)[close])


@pytest.mark.parametrize("bits", [16, 8])
def test_they_are_far_into_a_text(tmp_path, monkeypatch, bits):
    path = write_model(str(tmp_path / "m.cider"))
    rows = texts(112)
    wanted, found = reference(monkeypatch, path, bits, rows, {}), runtime(path, bits, rows)
    assert np.sqrt((errors(found, wanted) ** 2).mean()) < ROUNDED
    assert (found.argmax(-1) == wanted.argmax(-1)).mean() > 0.95


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("norm_eps", 10),
        *((name, 1.005) for name in (
            "rope_base", "embedding", "norm", "layers.0.q_norm", "layers.1.v", "layers.0.o",
            "layers.1.gate", "layers.1.down",
        )),
    ],
)  # fmt: skip
def test_a_small_error_would_be_seen(tmp_path, monkeypatch, name, times):
    """What the bounds are worth: a reference that is wrong by so little is not agreed with."""
    path = write_model(str(tmp_path / "m.cider"))
    rows = texts(LENGTH)
    wanted = reference(monkeypatch, path, 16, rows, {name: times})
    assert (errors(runtime(path, 16, rows), wanted) < CLOSE).mean() < MOST / 2
