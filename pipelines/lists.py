"""Lists of work in files: a graph carries their names, and stays small whatever there is to do."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

from pipelines import files

LIST_ITEMS = 1000
"""Items in one list: some 400 kB, which one worker reads and deals out."""


class Listed(Protocol):
    """What a list can hold: it has a key and a size in bytes, and travels as JSON."""

    @property
    def key(self) -> str: ...
    @property
    def size(self) -> int: ...
    def to_json(self) -> str: ...


def write_lists(items: Sequence[Listed], work: str) -> list[str]:
    """Store items in JSON, the largest first; the files that hold them."""
    ordered = sorted(items, key=lambda item: (-item.size, item.key))
    paths = []
    for start in range(0, len(ordered), LIST_ITEMS):
        rows = "".join(item.to_json() + "\n" for item in ordered[start : start + LIST_ITEMS])
        name = hashlib.sha256(rows.encode()).hexdigest()[:16]
        path = files.join(work, "lists", f"{name}.jsonl")
        files.write_bytes(path, rows.encode())
        paths.append(path)
    return paths


def read_list(path: str) -> list[str]:
    """The items of a list, each in JSON."""
    return files.read_bytes(path).decode().splitlines()
