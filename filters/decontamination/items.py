"""Benchmark items: the examples of an evaluation set that training text must not contain."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

SHORTEST, LONGEST = 4, 13
"""The range of n: an item of 4 to 12 words is one n-gram of its own length, longer ones give all
their 13-grams (AFM 2024, section 3.1: "4-13-gram collisions"; GPT-3, appendix C, chose n by
length in the same way)."""


@dataclass(frozen=True, slots=True, order=True)
class Item:
    """One example of a benchmark: ``id`` is unique within the benchmark and split."""

    benchmark: str
    id: str
    text: str
    split: str = ""


def parse_items(lines: Iterable[str], name: str) -> Iterator[Item]:
    """Items from JSON lines with ``benchmark``, ``id``, ``text`` and perhaps ``split``.

    ``name`` stands in errors for where the lines come from. Empty lines are skipped. Raises
    ValueError for a line that is no such object.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{name}, line {number} is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(f"{name}, line {number} is not an object: write one item a line")
        for key in ("benchmark", "id", "text"):
            if not isinstance(row.get(key), str):
                raise ValueError(f"{name}, line {number} needs the field {key!r} as a string")
        split = row.get("split", "")
        if not isinstance(split, str):
            raise ValueError(f"{name}, line {number} needs the field 'split' as a string")
        yield Item(row["benchmark"], row["id"], row["text"], split)


def demo_items() -> list[Item]:
    """The invented benchmark ``orchard-qa`` that comes with the package, for trying things out."""
    name = "demo_benchmark.jsonl"
    content = importlib.resources.files("filters").joinpath("data", name).read_text("utf-8")
    return list(parse_items(content.splitlines(), name))


def ngram_size(words: int, shortest: int = SHORTEST, longest: int = LONGEST) -> int | None:
    """The n for an item of so many words; None for an item too short to look for."""
    if words < shortest:
        return None
    return min(words, longest)
