"""Damaged and hostile adapters for ``fuzz_cider.py``.

Five kinds of damage: bytes anywhere in the weights or the configuration; entries of the weights'
header; factors, which become any numbers that 16 bits can hold; fields of the configuration.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_compute import THREADS, same
from fuzz_damage import VALUES, change_values, damage_bytes
from models_here import a_model

from runtime.adapter_config import AdapterError
from runtime.adapter_files import CONFIG, WEIGHTS, write_adapter
from runtime.adapters import WIDTHS, LoadedAdapter
from runtime.cache import BITS
from runtime.file import read
from runtime.model import Model
from runtime.shape import LINEAR, matrices

RANK = 3
HALVES = (0x7C00, 0xFC00, 0x7E00, 0x7BFF, 0xFBFF, 0x0001, 0x8000, 0x0000, 0x3C00)
"""Infinite, not a number, the greatest, the least, zeros, and 1, as 16 bits."""
FIELDS = (
    "alora_invocation_tokens", "exclude_modules", "layer_replication", "layers_to_transform",
    "lora_bias", "megatron_config", "use_qalora", "init_lora_weights", "eva_config", "other",
)  # fmt: skip


def damage_weights(files: dict[str, bytes], chance: random.Random) -> None:
    """Bytes of the weights."""
    files[WEIGHTS] = damage_bytes(files[WEIGHTS], chance)


def damage_config(files: dict[str, bytes], chance: random.Random) -> None:
    """Bytes of the configuration."""
    files[CONFIG] = damage_bytes(files[CONFIG], chance)


def damage_entries(files: dict[str, bytes], chance: random.Random) -> None:
    """Names, types, dimensions and places of arrays."""
    head, data = _split(files[WEIGHTS])
    files[WEIGHTS] = _join(_changed(json.loads(head), chance), data)


def damage_factors(files: dict[str, bytes], chance: random.Random) -> None:
    """Numbers, some or all of a factor."""
    head, data = _split(files[WEIGHTS])
    halves = np.frombuffer(data, "<u2").copy()
    for _ in range(chance.choice((1, 4, 64))):
        start = chance.randrange(len(halves))
        value = chance.choice(HALVES[3:]) if chance.random() < 0.9 else chance.choice(HALVES)
        halves[start : start + chance.choice((1, 1, 32, 500))] = value
    files[WEIGHTS] = _join(head, halves.tobytes())


def damage_fields(files: dict[str, bytes], chance: random.Random) -> None:
    """Fields of the configuration; some that it lacks are added."""
    config = json.loads(files[CONFIG])
    if chance.random() < 0.5:
        config[chance.choice(FIELDS)] = chance.choice(VALUES)
        files[CONFIG] = json.dumps(config).encode()
    else:
        files[CONFIG] = _changed(config, chance)


def _changed(tree: Any, chance: random.Random) -> bytes:
    """JSON with other values, now and then another value as a whole."""
    if chance.random() < 0.05:
        tree = chance.choice(VALUES)
    else:
        change_values(tree, chance)
    return json.dumps(tree).encode()


def _split(content: bytes) -> tuple[bytes, bytes]:
    length = int.from_bytes(content[:8], "little")
    return content[8 : 8 + length], content[8 + length :]


def _join(header: bytes, data: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + data


ADAPTER_DAMAGE = (damage_weights, damage_config, damage_entries, damage_factors, damage_fields)


class Adapters:
    """A model, and an adapter of it that is damaged in one way and another."""

    def __init__(self, folder: Path) -> None:
        contents = read(a_model())
        self._folder = folder / "tried"
        self._models = [
            [Model(contents, threads=n, context=64, cache_bits=bits) for n in THREADS]
            for bits in BITS
        ]
        rng = np.random.Generator(np.random.PCG64(0))
        factors: dict[str, Any] = {
            name: (rng.standard_normal((RANK, columns), np.float32) / 8,
                   rng.standard_normal((rows, RANK), np.float32) / 8)
            for name, (rows, columns) in matrices(contents.shape).items()
            if name.rpartition(".")[2] in LINEAR
        }  # fmt: skip
        write_adapter(str(self._folder), factors, contents.digest)
        self._files = {name: (self._folder / name).read_bytes() for name in (WEIGHTS, CONFIG)}

    def write(self, kind: int, chance: random.Random) -> Path:
        """Write a damaged one; its folder."""
        files = dict(self._files)
        ADAPTER_DAMAGE[kind](files, chance)
        self._folder.mkdir(exist_ok=True)
        for name, content in files.items():
            (self._folder / name).write_bytes(content)
        return self._folder

    def attempt(self, folder: Path) -> str:
        """``refused``, ``ran``, or ``overflowed``; anything else is raised."""
        found = [self._load(folder, width) for width in WIDTHS]
        adapters = [adapter for adapter in found if adapter is not None]
        if len(adapters) != len(found):
            assert not adapters, "an adapter is read in one width and refused in another"
            return "refused"
        outcomes = {same(models, own) for own in adapters for models in self._models}
        return max(outcomes, key=("ran", "overflowed").index)

    def _load(self, folder: Path, width: int) -> LoadedAdapter | None:
        try:
            return self._models[0][0].adapter(str(folder), bits=width)
        except AdapterError:
            return None
