"""Dimensions and parameter counts of the published models, and what no model can have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.training_recipes import make_shape
from trainer.model import initialise, shapes
from trainer.shape import (
    PRESETS,
    Layer,
    Shape,
    ShapeError,
    honeycrisp,
    layerwise,
    make_divisible,
    openelm,
    preset,
)


def test_the_dimensions_of_openelm_270m():
    shape = openelm("270m")
    assert [layer.heads for layer in shape.layers] == [12] * 5 + [16] * 7 + [20] * 4
    assert [layer.hidden for layer in shape.layers] == [
        768, 1024, 1280, 1536, 1792, 2048, 2560, 2816,
        3072, 3328, 3584, 3840, 4352, 4608, 4864, 5120,
    ]  # fmt: skip
    assert all(layer.kv_heads * 4 == layer.heads for layer in shape.layers)


@pytest.mark.parametrize(
    ("size", "layers", "width", "heads", "hidden", "parameters"),
    [
        ("270m", 16, 1280, (12, 20), (768, 5120), 271.5),
        ("450m", 20, 1536, (12, 24), (768, 6144), 457.2),
        ("1.1b", 28, 2048, (16, 32), (1024, 8192), 1079.9),
        ("3b", 36, 3072, (12, 24), (1536, 12288), 3036.6),
    ],
)
def test_the_sizes_of_openelm(size, layers, width, heads, hidden, parameters):
    shape = openelm(size)
    first, last = shape.layers[0], shape.layers[-1]
    assert (len(shape.layers), shape.width) == (layers, width)
    assert ((first.heads, last.heads), (first.hidden, last.hidden)) == (heads, hidden)
    assert shape.parameters / 1e6 == pytest.approx(parameters, abs=0.05)


@pytest.mark.parametrize(
    ("size", "body", "embedding"), [("85m", 84.955, 37.749), ("3b", 2586.7, 150.995)]
)
def test_the_sizes_of_afm(size, body, embedding):
    shape = honeycrisp(size)
    assert (shape.parameters - shape.embedding_parameters) / 1e6 == pytest.approx(body, abs=0.05)
    assert shape.embedding_parameters / 1e6 == pytest.approx(embedding, abs=0.001)
    assert shape.uniform


@pytest.mark.parametrize("layer_wise", [False, True])
@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_parameters_that_they_count(name, layer_wise):
    shape = preset(name, 2048, layer_wise=layer_wise)
    assert shape.uniform is not layer_wise
    assert sum(int(np.prod(dims)) for dims in shapes(shape).values()) == shape.parameters
    body = (shape.parameters - shape.embedding_parameters) / 1e6
    assert 0.7 * body < float(name.rstrip("m")) < 1.5 * body


@given(st.floats(1, 1e5), st.integers(1, 512))
def test_make_divisible(value, divisor):
    found = make_divisible(value, divisor)
    assert found % divisor == 0
    assert found >= divisor
    assert found >= 0.9 * value


def test_weights_are_drawn_by_name_and_scaled_by_fan_in():
    shape = preset("1m", 1000)
    drawn = initialise(shape, 3)
    assert {name: value.shape for name, value in drawn.items()} == shapes(shape)
    assert drawn["layers.0.down"].std() == pytest.approx(384**-0.5, rel=0.02)
    assert drawn["embedding"].std() == pytest.approx(128**-0.5, rel=0.02)
    assert (drawn["layers.2.q_norm"] == 1).all()
    larger = initialise(preset("1m", 2000), 3)
    np.testing.assert_array_equal(larger["layers.1.gate"], drawn["layers.1.gate"])
    assert (initialise(shape, 4)["layers.1.gate"] != drawn["layers.1.gate"]).any()


def test_openelm_draws_what_is_added_to_the_residual_stream_smaller():
    shape = openelm("270m", 1000)
    ends = replace(shape, layers=(shape.layers[0], shape.layers[-1]))
    drawn = initialise(ends, 3)
    for name in ("layers.1.o", "layers.1.down"):
        assert drawn[name].std() == pytest.approx((2 * 2 * 1280) ** -0.5, rel=0.02)
    assert drawn["layers.1.up"].std() == pytest.approx(1280**-0.5, rel=0.02)


def test_a_shape_comes_back_from_json():
    shape = layerwise(500, 96, 3, 32).with_rope_base(6_315_089.0)
    assert Shape.from_dict(shape.to_dict()) == shape


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Layer(5, 2, 8), "5 heads over 2 key-value heads"),
        (lambda: Layer(0, 1, 8), "heads is 0; it must be a whole number from 1"),
        (lambda: Shape(10, 8, 3, (Layer(1, 1, 8),)), "it must be even"),
        (lambda: Shape(10, 8, 4, ()), "layers is 0"),
        (lambda: Shape(10, 8, 4, (Layer(1, 1, 8),), rope_base=1.0), "a RoPE base of 1; it must"),
        (lambda: Shape(10, 8, 4, (Layer(1, 1, 8),), norm_eps=0.1), "a norm epsilon of 0.1"),
        (lambda: Shape.from_dict({"layers": [{"x": 1}]}), "no dimensions of a model"),
        (lambda: preset("2m", 10), "no preset '2m'; there are 1m, 5m, 15m, 85m"),
        (lambda: make_shape({"width": 64}, 10), "a model needs a preset"),
        (lambda: make_shape({"preset": "1m", "width": 64}, 10), "leave one of them out"),
        (lambda: make_shape({"preset": "1m", "layer_wise": 3}, 10), "true or false"),
    ],
)
def test_what_no_model_can_have(make, message):
    with pytest.raises(ShapeError, match=message.replace("(", r"\(")):
        make()
