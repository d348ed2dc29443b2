"""Weights that a training begins with: of a finished model, or of a checkpoint."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from trainer import checkpoint
from trainer.checkpoint import STATE, CheckpointError, check_shapes, field
from trainer.model import shapes
from trainer.model_files import load_model
from trainer.shape import Shape


@dataclass(frozen=True)
class Start:
    """Weights, the digest of their file, and that of the tokenizer they were trained with."""

    params: dict[str, NDArray[Any]]
    shape: Shape
    tokenizer: str
    sha256: str


def load_start(path: str) -> Start:
    """The weights of a model's folder, of a training run's, or of one of its checkpoints.

    Raises:
      ModelError: there is no model, or it is damaged.
      CheckpointError: the checkpoint is damaged, or lies within a stage that prunes.
    """
    if os.path.isfile(os.path.join(path, STATE)):
        return _of_checkpoint(path)
    model = load_model(path)
    return Start(
        model.params, model.shape, model.tokenizer.sha256, str(model.card["weights_sha256"])
    )


def _of_checkpoint(path: str) -> Start:
    files, state = checkpoint.load(path)
    if "params" not in files:
        raise CheckpointError(f"{path}: {STATE} names no parameters")
    params, shape = files["params"], Shape.from_dict(field(path, state, "shape", dict))
    if any(name.endswith(".mask") for name in params):
        raise CheckpointError(
            f"{path} lies within a stage that prunes: its masks are not learned; give one from "
            "before or behind that stage"
        )
    check_shapes(path, params, shapes(shape))
    settings = field(path, state, "settings", dict)
    digests = field(path, state, "files", dict)
    return Start(
        params, shape, str(field(path, settings, "tokenizer", str)),
        str(digests["params.safetensors"]),
    )  # fmt: skip
