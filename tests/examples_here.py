"""Examples for tests of adapting, and the file of a quantized model that is soon taught."""

from __future__ import annotations

import json
from pathlib import Path

from models_here import write_model
from tokenizers_here import small_tokenizer

from runtime.shape import Layer, Shape
from trainer.examples import Example, read_examples

SHAPE = Shape(2000, 32, 16, (Layer(2, 1, 64),), 5e5, 1e-6)

PAIRS = [
    ("The sky is", " blue."),
    ("The grass is", " green"),
    ("Snow is", " white and cold"),
    ("Coal is", " black"),
]


def write_rows(path: Path, pairs=PAIRS) -> str:
    rows = [{"prompt": prompt, "completion": completion} for prompt, completion in pairs]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def examples_of(path: Path, pairs=PAIRS) -> list[Example]:
    return read_examples(write_rows(path, pairs), small_tokenizer(), 4096)


def write_base(folder: Path, seed: int = 0) -> str:
    return write_model(str(folder / "m.cider"), SHAPE, seed)
