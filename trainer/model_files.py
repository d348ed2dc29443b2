"""A finished model on disk: weights, dimensions, what it was made of, and its tokenizer."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from tokenizer.model import Tokenizer
from tokenizer.model_proto import ModelFileError
from trainer.checkpoint import check_shapes, digest
from trainer.headed import read_headed, write_headed
from trainer.model import shapes
from trainer.safe_file import save_arrays
from trainer.shape import Shape, ShapeError

FORMAT = "cidermill-model"
VERSION = 1
CARD = "model.json"
CONTEXT = 32_768
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.model"


class ModelError(ValueError):
    """A folder that holds no model, or a damaged one; the message names the file and the fault."""


@dataclass(frozen=True)
class Model:
    """A model as it lies on disk. ``card`` is what ``model.json`` tells besides its dimensions."""

    params: dict[str, NDArray[Any]]
    shape: Shape
    tokenizer: Tokenizer
    card: Mapping[str, Any]

    @property
    def context(self) -> int:
        """Tokens of the longest window that it was trained on; ``CONTEXT`` where that is not known,
        as of the weights of a quantized model whose file does not tell it."""
        told = self.card.get("context", 0)
        stages = self.card.get("training", {}).get("stages", [])
        return max([int(told), *(int(stage["length"]) for stage in stages)]) or CONTEXT


def save_model(
    folder: str, params: Mapping[str, NDArray[Any]], shape: Shape, tokenizer: Tokenizer,
    facts: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write a model as a whole: an earlier one of the folder is replaced at the end."""
    temporary = f"{folder}.writing"
    shutil.rmtree(temporary, ignore_errors=True)
    os.makedirs(temporary)
    weights = os.path.join(temporary, WEIGHTS)
    save_arrays(params, weights)
    with open(os.path.join(temporary, TOKENIZER), "wb") as out:
        out.write(tokenizer.content)
    card = {
        "shape": shape.to_dict(),
        "parameters": shape.parameters,
        "weights_sha256": digest(weights),
        "tokenizer_sha256": tokenizer.sha256,
        **facts,
    }
    write_headed(os.path.join(temporary, CARD), FORMAT, VERSION, card)
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(temporary, folder)


def find_model(path: str) -> str:
    """The folder of a model: this one, or ``model`` in the folder of a training run.

    Raises:
      ModelError: neither is.
    """
    for folder in (path, os.path.join(path, "model")):
        if os.path.isfile(os.path.join(folder, CARD)):
            return folder
    raise ModelError(f"{path} holds no model: there is no {CARD}; run `cidermill train`")


def load_model(path: str) -> Model:
    """Read a model, checked against its digests.

    Raises:
      ModelError: there is none, or it is damaged.
    """
    folder = find_model(path)
    card = read_headed(
        os.path.join(folder, CARD), FORMAT, VERSION, "the card of a model", ModelError
    )
    weights = os.path.join(folder, WEIGHTS)
    try:
        shape = Shape.from_dict(card["shape"])
        tokenizer = Tokenizer.load(os.path.join(folder, TOKENIZER))
        if digest(weights) != card["weights_sha256"]:
            raise ModelError(f"{weights} is damaged: its digest is not that of {CARD}")
        params = load_file(weights)
        check_shapes(weights, params, shapes(shape))
    except ModelError:
        raise
    except (OSError, KeyError, ValueError, ShapeError, ModelFileError, SafetensorError) as error:
        raise ModelError(f"{folder}: {error}") from None
    if tokenizer.sha256 != card.get("tokenizer_sha256"):
        raise ModelError(f"{folder}: {TOKENIZER} is not the one that {CARD} names")
    if shape.vocabulary != tokenizer.vocab_size:
        raise ModelError(
            f"{folder}: a model of {shape.vocabulary} tokens with a tokenizer of "
            f"{tokenizer.vocab_size}"
        )
    return Model(params, shape, tokenizer, card)
