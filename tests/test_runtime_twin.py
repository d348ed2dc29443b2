"""The runtime beside the trainer's model in JAX, with the weights that a file stands for."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from models_here import SHAPE, write_model
from tokenizers_here import own_texts, small_tokenizer

from pipelines.exporting import dequantized
from runtime.file import read
from runtime.model import Model
from runtime.shape import Layer, Shape
from trainer.model import Windows, logits

SHAPES = {
    "uniform": Shape(2000, 64, 32, (Layer(2, 1, 96), Layer(2, 1, 96)), 5e5, 1e-6),
    "layer-wise": SHAPE,
}


BOUND = 0.04


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_those_of_the_model_that_was_trained(tmp_path, shape, bits):
    """The bound is what activations of 8 bits cost: the root mean square of the difference over
    that of the logits."""
    path = write_model(str(tmp_path / "m.cider"), SHAPES[shape])
    ids = small_tokenizer().encode(own_texts()[0][:300]).tolist()
    model = dequantized(read(path))
    row = jnp.asarray(ids)[None]
    windows = Windows(row, jnp.ones_like(row), jnp.arange(len(ids))[None])
    params = {name: jnp.asarray(own) for name, own in model.params.items()}
    wanted = np.asarray(logits(params, model.shape, windows))[0]
    found = Model.load(path, threads=1, context=256, cache_bits=bits).logits(ids)
    error = np.sqrt(((found - wanted) ** 2).mean() / (wanted**2).mean())
    assert error < BOUND
