"""Damage that any file may take: to its bytes, and to a value of JSON."""

from __future__ import annotations

import random
from typing import Any

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 15, 16, 31, 64, 2**31, 2**32, 2**48, 2**63, 2**64, 10**40,
    -(2**63), 0.0, 1e308, -1e-320, "", "q", "layers.0.q", "palette4", "int8", [], {}, [[]],
    [16, 96], "0" * 64,
)  # fmt: skip


def damage_bytes(content: bytes, chance: random.Random) -> bytes:
    """Change, cut, lengthen or repeat bytes anywhere."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        place = chance.randrange(chance.choice((64, 4096, len(changed))))
        changed[min(place, len(changed) - 1)] = chance.randrange(256)
    kind = chance.randrange(6)
    if kind == 0:
        return bytes(changed[: chance.randrange(len(changed))])
    if kind == 1:
        return bytes(changed) + chance.randbytes(chance.randrange(1, 200))
    return bytes(changed)


def change_values(tree: Any, chance: random.Random) -> None:
    """Change, remove or exchange some values anywhere in objects and lists, in place."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        _change_one(tree, chance)


def _change_one(at: Any, chance: random.Random) -> None:
    while at:
        key = chance.choice(list(at) if isinstance(at, dict) else list(range(len(at))))
        if isinstance(at[key], dict | list) and at[key] and chance.random() < 0.85:
            at = at[key]
            continue
        kind = chance.randrange(4)
        if kind == 0:
            del at[key]
        elif kind == 1 and isinstance(at[key], int) and not isinstance(at[key], bool):
            at[key] += chance.choice((-64, -16, -1, 1, 16, 32, 64))
        elif kind == 2:
            other = chance.choice(list(at) if isinstance(at, dict) else list(range(len(at))))
            at[key], at[other] = at[other], at[key]
        else:
            at[key] = chance.choice(VALUES)
        return
