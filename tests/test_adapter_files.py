"""Adapters on disk: as PEFT reads them, for one quantized base alone; what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import digests
from safetensors.numpy import load_file, save_file

from runtime import safe_folder
from runtime.adapter_files import (
    CONFIG,
    WEIGHTS,
    AdapterError,
    check_base,
    read_adapter,
    write_adapter,
)  # fmt: skip

BASE = "ab" * 32
MATRICES = {"layers.0.q": (32, 48), "layers.0.down": (48, 64), "layers.11.v": (16, 48)}


def factors(rank: int = 4) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    drawn = np.random.default_rng(1)
    return {
        name: tuple(
            drawn.standard_normal(dims).astype(np.float16).astype(np.float32)
            for dims in ((rank, columns), (rows, rank))
        )
        for name, (rows, columns) in MATRICES.items()
    }


@pytest.fixture
def folder(tmp_path) -> Path:
    write_adapter(str(tmp_path / "a"), factors(), BASE, alpha=8)
    return tmp_path / "a"


def test_what_was_written_is_read(folder, tmp_path):
    found = read_adapter(str(folder), BASE, MATRICES)
    assert (found.scale, found.base) == (2.0, BASE)
    assert found.factors.keys() == MATRICES.keys()
    for name, (a, b) in factors().items():
        np.testing.assert_array_equal(found.factors[name][0], a)
        np.testing.assert_array_equal(found.factors[name][1], b)
    assert found.nbytes == sum(4 * 4 * (rows + columns) for rows, columns in MATRICES.values())
    write_adapter(str(tmp_path / "b"), factors(), BASE, alpha=8)
    assert digests(tmp_path / "b") == digests(folder)


def test_the_files_are_those_of_peft(folder):
    config = json.loads((folder / CONFIG).read_text())
    assert config["peft_type"] == "LORA"
    assert (config["r"], config["lora_alpha"], config["bias"]) == (4, 8, "none")
    assert config["target_modules"] == ["down_proj", "q_proj", "v_proj"]
    tensors = load_file(folder / WEIGHTS)
    at = "base_model.model.model.layers.11.self_attn.v_proj.lora_"
    assert tensors[f"{at}A.weight"].shape == (4, 48)
    assert tensors[f"{at}B.weight"].shape == (16, 4)
    assert "base_model.model.model.layers.0.mlp.down_proj.lora_B.weight" in tensors
    assert {value.dtype for value in tensors.values()} == {np.dtype(np.float16)}


def test_another_base_is_refused(folder):
    with pytest.raises(AdapterError, match=r"is for the base abababababababab, and .* cdcdcdcdcd"):
        read_adapter(str(folder), "cd" * 32)
    change(folder, cidermill_base_sha256=None)
    with pytest.raises(AdapterError, match="names no quantized base"):
        read_adapter(str(folder), BASE)


def change(folder: Path, **fields) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **fields}))


def test_a_rank_stabilised_adapter_has_its_own_scale(folder):
    change(folder, use_rslora=True)
    assert read_adapter(str(folder), BASE).scale == 4.0


def test_what_the_configuration_leaves_out_has_no_factors(folder):
    change(folder, exclude_modules=["down_proj"])
    with pytest.raises(AdapterError, match=r"exclude_modules has model\.layers\.0\.mlp\.down_proj"):
        read_adapter(str(folder), BASE)
    change(folder, exclude_modules=None, r=5)
    with pytest.raises(AdapterError, match="says that r is 5, and the factors are of 4"):
        read_adapter(str(folder), BASE)


def test_what_could_not_be_read_is_not_written(tmp_path):
    for options, message in [
        ({"alpha": 1e7}, r"lora_alpha is 10000000\.0"),
        ({"alpha": float("nan")}, "lora_alpha is nan"),
        ({"facts": {"epochs": 2}}, "'epochs' is 2; a field that is not known"),
    ]:
        with pytest.raises(AdapterError, match=message):
            write_adapter(str(tmp_path / "a"), factors(), BASE, **options)
    assert not list(tmp_path.iterdir())


def rewrite(folder: Path, **changes: np.ndarray | None) -> None:
    """Change tensors, named by what follows ``layers.`` with its dots as underscores."""
    found = load_file(folder / WEIGHTS)
    for name, value in changes.items():
        key = next(k for k in found if name in k.replace(".", "_"))
        found[key] = value
    save_file({k: v for k, v in found.items() if v is not None}, folder / WEIGHTS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"0_self_attn_q_proj_lora_B": None}, "lacks the other"),
        ({"0_self_attn_q_proj_lora_A": np.ones((5, 48), np.float16)}, r"\(rank, in\)"),
        ({"0_self_attn_q_proj_lora_A": np.full((4, 48), np.nan, np.float32)}, "not finite"),
        ({"0_self_attn_q_proj_lora_A": np.ones((4, 48), np.int32)}, "of type 'I32'"),
        ({"0_self_attn_q_proj_lora_A": np.ones((4, 47), np.float32)}, r"matrix of \(32, 47\)"),
    ],
)
def test_factors_that_do_not_fit_are_refused(folder, changes, message):
    rewrite(folder, **changes)
    with pytest.raises(AdapterError, match=message):
        read_adapter(str(folder), BASE, MATRICES)


def test_a_map_that_the_model_lacks_is_refused(folder):
    with pytest.raises(AdapterError, match=r"adapts layers\.11\.v, which this model lacks"):
        read_adapter(str(folder), BASE, {k: v for k, v in MATRICES.items() if "11" not in k})
    save_file({"lm_head.weight": np.ones((2, 2), np.float32)}, folder / WEIGHTS)
    with pytest.raises(AdapterError, match=r"has 'lm_head.weight'"):
        read_adapter(str(folder), BASE)


def test_weights_in_bf16_are_read(folder):
    """As most adapters of others are kept; written by hand, as numpy has no such type."""
    head = json.dumps({
        f"base_model.model.model.layers.0.self_attn.q_proj.lora_{letter}.weight": {
            "dtype": "BF16", "shape": shape, "data_offsets": [at, at + 4],
        }
        for letter, shape, at in (("A", [1, 2], 0), ("B", [2, 1], 4))
    }).encode()  # fmt: skip
    halves = np.array([0x3F80, 0xC000, 0x4049, 0x0000], "<u2").tobytes()
    (folder / WEIGHTS).write_bytes(len(head).to_bytes(8, "little") + head + halves)
    change(folder, r=1)
    a, b = read_adapter(str(folder), BASE).factors["layers.0.q"]
    np.testing.assert_array_equal(a, [[1.0, -2.0]])
    np.testing.assert_array_equal(b, [[3.140625], [0.0]])


def test_damage_is_told(folder):
    whole = (folder / WEIGHTS).read_bytes()
    for content in (whole[:-1], b"", b"\xff" * 16, whole[:20]):
        (folder / WEIGHTS).write_bytes(content)
        with pytest.raises(AdapterError, match="is damaged"):
            read_adapter(str(folder), BASE)
    (folder / CONFIG).write_text("{")
    with pytest.raises(AdapterError, match="no JSON"):
        read_adapter(str(folder), BASE)
    (folder / CONFIG).unlink()
    with pytest.raises(AdapterError, match="cannot be read: No such file"):
        read_adapter(str(folder), BASE)


@pytest.mark.parametrize(
    ("found", "base", "message"),
    [
        (factors(), "abc", "must be a SHA-256"),
        ({"embedding": (np.ones((1, 2)), np.ones((3, 1)))}, BASE, "no linear map"),
        ({"layers.0.q": (np.full((1, 2), 1e6), np.ones((3, 1)))}, BASE, "not finite in 16 bits"),
        ({}, BASE, r"factors of ranks \[\]"),
    ],
)
def test_what_cannot_be_written(tmp_path, found, base, message):
    with pytest.raises(AdapterError, match=message):
        write_adapter(str(tmp_path / "a"), found, base)
    assert not list(tmp_path.iterdir())


def test_an_adapter_is_replaced_by_a_whole_one_or_not_at_all(folder, monkeypatch):
    before = digests(folder)
    monkeypatch.setattr(safe_folder, "_put", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_adapter(str(folder), factors(8), BASE)
    assert digests(folder) == before
    monkeypatch.undo()
    write_adapter(str(folder), factors(8), BASE)
    assert len(read_adapter(str(folder), BASE).factors["layers.0.q"][0]) == 8
    assert [path.name for path in folder.parent.iterdir()] == ["a"]


def test_one_that_a_killed_run_set_aside_is_named(folder):
    folder.rename(folder.parent / ".a.17.0.earlier")
    for read in (read_adapter, check_base):
        with pytest.raises(
            AdapterError, match=r"was killed .* is .*/\.a\.17\.0\.earlier; rename it"
        ):
            read(str(folder), BASE)
    with pytest.raises(AdapterError, match="/b cannot be read: No such file"):
        read_adapter(str(folder.parent / "b"), BASE)
