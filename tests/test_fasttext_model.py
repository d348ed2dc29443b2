"""Models that ship: checked before they load, loaded once, asked without surprises."""

from __future__ import annotations

import hashlib
import importlib.resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import fasttext_model
from filters.fasttext_model import ModelError, load, probability, windows

MODELS = importlib.resources.files("filters") / "models"
MOST_BYTES = 2_000_000


@pytest.fixture
def fresh(monkeypatch):
    """Loading starts anew, before and after."""
    load.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    load.cache_clear()


@pytest.mark.parametrize("name", ["safety", "quality"])
def test_shipped_models_are_small_and_are_those_of_the_table(name):
    data = (MODELS / f"{name}.ftz").read_bytes()
    assert len(data) <= MOST_BYTES
    assert hashlib.sha256(data).hexdigest() == fasttext_model._digests()[name]


def test_a_model_that_was_exchanged_is_refused(fresh):
    fresh.setattr(fasttext_model, "_digests", lambda: {"quality": "0" * 64})
    with pytest.raises(ModelError, match=r"quality\.ftz has SHA-256 .*, not 000.*; reinstall"):
        load("quality")


def test_a_model_is_loaded_once(fresh):
    assert load("quality") is load("quality")
    assert load.cache_info().misses == 1


def test_labels_share_the_probability():
    for name, labels in (("safety", ("toxic", "fine")), ("quality", ("good", "bad"))):
        assert sum(probability(name, "a plain line", label) for label in labels) == pytest.approx(
            1, abs=1e-4
        )


def test_an_unknown_label_has_no_probability():
    assert probability("safety", "a plain line", "purple") == 0


@settings(deadline=None)
@given(st.lists(st.text("abc é中", min_size=1), max_size=30).map(" ".join))
def test_probabilities_are_bounded_and_the_same_again(line):
    first = probability("safety", line, "toxic")
    assert 0 <= first <= 1
    assert probability("safety", line, "toxic") == first


@pytest.mark.parametrize(
    ("words", "size", "most", "expected"),
    [
        (5, 2, 9, ["0 1", "2 3", "4"]),
        (8, 2, 2, ["0 1", "4 5"]),
        (1, 2, 3, ["0"]),
        (0, 2, 3, [""]),
    ],
)
def test_windows_are_spread_over_the_text(words, size, most, expected):
    assert windows([str(n) for n in range(words)], size, most) == expected
