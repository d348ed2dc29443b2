"""Weights that a training begins with: of a finished model, or of a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from trainer import checkpoint
from trainer.checkpoint import CHECKPOINTS, STATE, CheckpointError, check_shapes, field
from trainer.model import shapes
from trainer.model_files import load_model
from trainer.prune import has_masks
from trainer.shape import Shape


@dataclass(frozen=True)
class Start:
    """Weights, the digests of the tokenizer they were trained with and of their file, and tokens of
    the longest window that they were trained on."""

    params: dict[str, NDArray[Any]]
    shape: Shape
    tokenizer: str
    sha256: str
    context: int


def load_start(path: str, run: str | None = None) -> Start:
    """The weights of a model's folder, of a training run's, or of one of its checkpoints.

    Args:
      run: the folder of the run that begins with them. Where that has begun, and they are gone, its
        own checkpoint tells what they were; it does not need them any more.

    Raises:
      ModelError: there is no model, or it is damaged.
      CheckpointError: the checkpoint is damaged, or lies within a stage that prunes.
    """
    if os.path.isfile(os.path.join(path, STATE)):
        return _of_checkpoint(path)
    begun = checkpoint.listed(os.path.join(run, CHECKPOINTS)) if run else []
    if begun and not os.path.exists(path):
        return _gone(begun[-1])
    model = load_model(path)
    return Start(
        model.params, model.shape, model.tokenizer.sha256, str(model.card["weights_sha256"]),
        model.context,
    )  # fmt: skip


def _gone(path: str) -> Start:
    """What a run began with, by one of its checkpoints."""
    state = checkpoint.read_state(path)
    settings = field(path, state, "settings", dict)
    return Start(
        {}, Shape.from_dict(field(path, settings, "shape", dict)),
        str(field(path, settings, "tokenizer", str)), str(field(path, settings, "start", str)),
        checkpoint.context_of(state),
    )  # fmt: skip


def _of_checkpoint(path: str) -> Start:
    files, state = checkpoint.load(path)
    if "params" not in files:
        raise CheckpointError(f"{path}: {STATE} names no parameters")
    params, shape = files["params"], Shape.from_dict(field(path, state, "shape", dict))
    if has_masks(params):
        raise CheckpointError(
            f"{path} lies within a stage that prunes: its masks are not learned; give one from "
            "before or behind that stage"
        )
    check_shapes(path, params, shapes(shape))
    settings = field(path, state, "settings", dict)
    digests = field(path, state, "files", dict)
    return Start(
        params, shape, str(field(path, settings, "tokenizer", str)),
        str(digests["params.safetensors"]), _context_within(path, state),
    )  # fmt: skip


def _context_within(path: str, state: Mapping[str, Any]) -> int:
    """The longest window of the stages that a checkpoint's run had come to, and of what was before.

    Raises:
      CheckpointError: the state has no stages.
    """
    stages = field(path, field(path, state, "settings", dict), "stages", list)
    done = int(field(path, field(path, state, "place", dict), "stage", int))
    return max(checkpoint.context_of(state), *(int(own["length"]) for own in stages[: done + 1]))
