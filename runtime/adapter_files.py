"""Adapters as PEFT keeps them, bound to the quantized model that they were trained on.

A folder with ``adapter_model.safetensors`` and ``adapter_config.json`` (huggingface/peft). Beside
PEFT's own fields the configuration holds the digest of the quantized base, and another base is
refused: an adapter that undoes one palette's errors adds noise to any other. Modules have the names
of Qwen3 in transformers.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from runtime.adapter_config import (
    BASE,
    CONFIG,
    MAX_CONFIG_BYTES,
    AdapterError,
    check_fields,
    check_modules,
    parse_config,
    scale_of,
)  # fmt: skip
from runtime.safe_folder import open_together, set_aside, write_folder
from runtime.tensors import TensorFileError, decode, encode
from tokenizer.shown import shown

WEIGHTS = "adapter_model.safetensors"
MAX_BYTES = 1 << 32
MAX_RANK = 512

MODULES = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
    "o": "self_attn.o_proj", "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip
_NAMES = {module: name for name, module in MODULES.items()}
_KEY = re.compile(
    r"base_model\.model\.model\.layers\.(0|[1-9]\d{0,3})\.(\w+\.\w+)\.lora_([AB])\.weight"
)
_DIGEST = re.compile(r"[0-9a-f]{64}")

Floats = NDArray[np.float32]
Factors = Mapping[str, tuple[Floats, Floats]]
"""By the name of a weight, such as ``layers.0.q``: A (rank, in) and B (out, rank)."""


@dataclass(frozen=True)
class Adapter:
    """An adapter: a linear map's output gains ``scale * B (A x)``.

    Args:
      factors: see ``Factors``; maps that it leaves alone are not among them.
      scale: alpha / rank, or alpha / sqrt(rank) for rank-stabilised ones.
      base: SHA-256 of the quantized model that it was trained on.
      sha256: of the file of its weights.
    """

    factors: Factors
    scale: float
    base: str
    sha256: str

    @property
    def nbytes(self) -> int:
        """Bytes of its factors in memory."""
        return sum(a.nbytes + b.nbytes for a, b in self.factors.values())


def write_adapter(
    folder: str, factors: Factors, base: str, *, alpha: float | None = None,
    base_name: str = "", facts: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Write an adapter in 16 bits, whole or not at all; an earlier one of the folder is replaced.

    Others may write or read it meanwhile: the last writer's stays, and readers get one or another.

    Args:
      factors: all of one rank.
      base: SHA-256 of the quantized model.
      alpha: the scale times the rank; without, the rank, so that the scale is 1.
      facts: what else the configuration shall tell, by names that begin with ``cidermill_``.

    Raises:
      AdapterError: factors that do not fit each other, are no known map's, or leave f16's range;
        an alpha or facts that ``read_adapter`` would refuse.
    """
    if not _DIGEST.fullmatch(base):
        raise AdapterError(f"a base of digest {base!r}; it must be a SHA-256 in hex")
    rank = _rank(folder, factors)
    arrays = {}
    for name, (a, b) in factors.items():
        for letter, value in (("A", a), ("B", b)):
            with np.errstate(over="ignore"):
                half = value.astype(np.float16)
            if not np.isfinite(half).all():
                raise AdapterError(f"{name}: factors that are not finite in 16 bits")
            arrays[_key(name, letter)] = half
    config = {**(facts or {}), **_plain_config(factors, rank, base), "lora_alpha": rank}
    config["base_model_name_or_path"] = base_name
    if alpha is not None:
        config["lora_alpha"] = alpha
    check_fields(folder, config)
    scale_of(folder, config, rank)
    content = json.dumps(config, indent=1, sort_keys=True, allow_nan=False) + "\n"
    write_folder(
        folder, {WEIGHTS: encode(arrays, {"format": "pt"}), CONFIG: content.encode("utf-8")}
    )


def _plain_config(factors: Factors, rank: int, base: str) -> dict[str, Any]:
    """PEFT's fields for an adapter with nothing but factors."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "revision": None,
        "r": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted({MODULES[name.rpartition(".")[2]].partition(".")[2]
                                  for name in factors}),
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_to_transform": None,
        "layers_pattern": None,
        "modules_to_save": None,
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_rslora": False,
        "use_dora": False,
        BASE: base,
    }  # fmt: skip


def read_adapter(
    folder: str, base: str, matrices: Mapping[str, tuple[int, int]] | None = None
) -> Adapter:
    """Read an adapter for a quantized model.

    Args:
      base: the model's SHA-256.
      matrices: (out, in) by name, which the factors must fit.

    Raises:
      AdapterError: there is none, it is damaged, of a kind that the runtime does not compute, or
        was trained on another base.
    """
    path = os.path.join(folder, WEIGHTS)
    with _opened(folder, CONFIG, WEIGHTS) as (handle, weights):
        config = _config_for(folder, handle, base)
        content = _content(path, weights, MAX_BYTES)
    try:
        tensors = decode(content)
    except TensorFileError as error:
        raise AdapterError(f"{path} is damaged: {error}") from None
    factors = _factors(path, tensors)
    rank = _rank(path, factors)
    if matrices is not None:
        _check(path, factors, matrices)
    told = os.path.join(folder, CONFIG)
    scale = scale_of(told, config, rank)
    check_modules(told, config, map(_module, factors))
    return Adapter(factors, scale, base, hashlib.sha256(content).hexdigest())


def read_config(folder: str) -> dict[str, Any]:
    """The configuration of an adapter, of whatever base.

    Raises:
      AdapterError: it is not there, damaged, or of a kind that the runtime does not compute.
    """
    path = os.path.join(folder, CONFIG)
    with _opened(folder, CONFIG) as (handle,):
        return parse_config(path, _content(path, handle, MAX_CONFIG_BYTES))


def check_base(folder: str, base: str) -> None:
    """Read the configuration of an adapter alone.

    Raises:
      AdapterError: it is not there, damaged, of a kind that the runtime does not compute, or of
        another base.
    """
    with _opened(folder, CONFIG) as (handle,):
        _config_for(folder, handle, base)


@contextmanager
def _opened(folder: str, *names: str) -> Iterator[list[BinaryIO]]:
    """Files of one adapter, also while another takes its place."""
    try:
        with open_together(folder, names) as files:
            yield files
    except OSError as error:
        earlier = None if os.path.lexists(folder) else set_aside(folder)
        if earlier is not None:
            raise AdapterError(
                f"{folder} is not there: a run was killed when it was to replace it; the earlier "
                f"adapter is {earlier}; rename it to {folder}"
            ) from None
        raise AdapterError(
            f"{error.filename or folder} cannot be read: {error.strerror or error}"
        ) from None


def _config_for(folder: str, handle: BinaryIO, base: str) -> dict[str, Any]:
    path = os.path.join(folder, CONFIG)
    config = parse_config(path, _content(path, handle, MAX_CONFIG_BYTES))
    own: Any = config.get(BASE)
    if own != base:
        told = "names no quantized base"
        if isinstance(own, str) and _DIGEST.fullmatch(own):
            told = f"is for the base {own[:16]}"
        raise AdapterError(
            f"the adapter in {folder} {told}, and this model is {base[:16]}; an adapter works with "
            "the quantized model that it was trained on alone"
        )
    return config


def _key(name: str, letter: str) -> str:
    layer, _, own = name.rpartition(".")
    if own not in MODULES or not re.fullmatch(r"layers\.\d+", layer):
        raise AdapterError(f"an adapter on {name}, which is no linear map of a layer")
    return f"base_model.model.{_module(name)}.lora_{letter}.weight"


def _module(name: str) -> str:
    """What Qwen3 calls the module of a weight."""
    layer, _, own = name.rpartition(".")
    return f"model.{layer}.{MODULES[own]}"


def _rank(where: str, factors: Factors) -> int:
    """The rank, the same for all."""
    ranks: set[int] = set()
    for name, (a, b) in factors.items():
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1] or 0 in (*a.shape, *b.shape):
            raise AdapterError(
                f"{where}: {name} has factors of {a.shape} and {b.shape}; they must be (rank, in) "
                "and (out, rank)"
            )
        ranks.add(a.shape[0])
    if len(ranks) != 1 or not 1 <= min(ranks) <= MAX_RANK:
        raise AdapterError(
            f"{where}: factors of ranks {sorted(ranks)}; all have one, from 1 to {MAX_RANK}"
        )
    return ranks.pop()


def _content(path: str, handle: BinaryIO, most: int) -> bytes:
    size = os.fstat(handle.fileno()).st_size
    if size > most:
        raise AdapterError(f"{path} has more than {most} bytes")
    return handle.read(size)


def _factors(path: str, tensors: Mapping[str, Floats]) -> dict[str, tuple[Floats, Floats]]:
    halves: dict[str, dict[str, Floats]] = {}
    for key, value in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None or match[2] not in _NAMES:
            raise AdapterError(f"{path} has {shown(key)}, which is no factor of a linear map")
        name = f"layers.{match[1]}.{_NAMES[match[2]]}"
        if not np.isfinite(value).all():
            raise AdapterError(f"{path}: {key} holds numbers that are not finite")
        halves.setdefault(name, {})[match[3]] = value
    for name, own in halves.items():
        if own.keys() != {"A", "B"}:
            raise AdapterError(f"{path} has one factor of {name}, and lacks the other")
    return {name: (own["A"], own["B"]) for name, own in sorted(halves.items())}


def _check(path: str, factors: Factors, matrices: Mapping[str, tuple[int, int]]) -> None:
    for name, (a, b) in factors.items():
        if name not in matrices:
            raise AdapterError(f"{path} adapts {name}, which this model lacks")
        if (b.shape[0], a.shape[1]) != tuple(matrices[name]):
            raise AdapterError(
                f"{path}: {name} is for a matrix of {(b.shape[0], a.shape[1])}, and this model's "
                f"is {tuple(matrices[name])}"
            )
