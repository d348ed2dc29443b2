"""Steps of a quantization are taken over from a stored one only if it is whole and of the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.quantize_work import Work

KEY = {"bits": 3.5, "data": "a"}
ARRAYS = {"w": np.arange(64, dtype=np.float32)}


class Maker:
    """Counts how often it is asked; its loss is not a round number of decimals."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self):
        self.count += 1
        return ARRAYS, {"lost": [0.1, 1 / 3]}


def run(folder: Path, key=KEY, names=("one", "two"), said=None) -> list[int]:
    """How often each step was made."""
    work = Work(str(folder / "work"), key, (said if said is not None else []).append)
    counts = []
    for name in names:
        maker = Maker()
        arrays, state = work.step(name, maker)
        assert np.array_equal(arrays["w"], ARRAYS["w"])
        assert state["lost"] == [0.1, 1 / 3]
        assert state["seconds"] >= 0
        counts.append(maker.count)
    return counts


def test_steps_are_made_once(tmp_path):
    said: list[str] = []
    assert run(tmp_path, said=said) == [1, 1]
    assert not said
    assert run(tmp_path, said=said) == [0, 0]
    assert len(said) == 2
    assert "two: done before" in said[1]


def test_steps_of_another_key_or_name_are_made_anew(tmp_path):
    run(tmp_path)
    assert run(tmp_path, key={**KEY, "bits": 3.0}) == [1, 1]
    assert run(tmp_path) == [1, 1]
    assert run(tmp_path, names=("one", "other")) == [0, 1]


def test_an_error_or_an_interrupt_keeps_what_was_done_before(tmp_path):
    work = Work(str(tmp_path / "work"), KEY)
    work.step("one", Maker())

    def ends():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work.step("two", ends)
    assert run(tmp_path) == [0, 1]
    work.remove()
    assert not list(tmp_path.iterdir())


def changed_weights(folder: Path) -> None:
    path = folder / "arrays.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")


def changed_number(folder: Path) -> None:
    path = folder / "state.json"
    path.write_text(path.read_text().replace("0.333", "0.334"))


def no_number(folder: Path) -> None:
    path = folder / "state.json"
    state = json.loads(path.read_text())
    state["made"] = 3
    path.write_text(json.dumps(state))


def cut_short(folder: Path) -> None:
    path = folder / "state.json"
    path.write_bytes(path.read_bytes()[:40])


def no_arrays(folder: Path) -> None:
    (folder / "arrays.safetensors").unlink()


@pytest.mark.parametrize("damage", [changed_weights, changed_number, no_number, cut_short,
                                    no_arrays])  # fmt: skip
def test_a_damaged_step_is_noticed_and_made_anew(tmp_path, damage):
    run(tmp_path)
    damage(tmp_path / "work" / "step-00000001")
    said: list[str] = []
    assert run(tmp_path, said=said) == [1, 0]
    assert "one: made anew: " in said[0]
    assert run(tmp_path) == [0, 0]
