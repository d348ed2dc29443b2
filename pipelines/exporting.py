"""What ``cidermill export`` writes: models and adapters in the formats of others.

Palettes have no type in any of these. A quantized model is written as the weights that its tables
stand for, in 16 bits or more; with ``--adapter`` its products are added to them.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import numpy as np

from pipelines.extras import need
from pipelines.inputs_error import InputError
from pipelines.target import begins_with, check_apart, check_folder, check_own, is_same
from runtime.adapter_files import Adapter, read_adapter
from runtime.file import Contents, read
from runtime.layout import unpack
from runtime.shape import matrices
from trainer.model_files import Model, find_model, load_model
from trainer.shape import Shape

LORA = "gguf-lora"
GGUF = b"GGUF"
"""How such a file begins."""


def export(arguments: argparse.Namespace) -> None:
    """Perform the command. Raises ``InputError``, or ``ValueError`` for damaged files."""
    if arguments.dtype is not None and arguments.format != "hf":
        raise InputError(f"--dtype is for --format hf; {arguments.format} tells it already")
    if os.path.isfile(arguments.model):
        contents = read(arguments.model)
        adapter = None
        if arguments.adapter:
            adapter = read_adapter(arguments.adapter, contents.digest, matrices(contents.shape))
        if arguments.format == LORA:
            print(_lora(arguments, contents, adapter))
            return
        # What holds an adapter's products has its name: it is another model than the base.
        stem = os.path.abspath(arguments.adapter or os.path.splitext(arguments.model)[0])
        print(_model(arguments, dequantized(contents, adapter), f"{stem}-hf", stem))
        return
    if arguments.adapter or arguments.format == LORA:
        raise InputError("adapters are of quantized models; give a .cider file")
    folder = find_model(arguments.model)
    beside = os.path.dirname(os.path.abspath(folder))
    hf, stem = os.path.join(beside, "hf"), os.path.join(beside, "model")
    print(_model(arguments, load_model(folder), hf, stem))


def dequantized(contents: Contents, adapter: Adapter | None = None) -> Model:
    """A quantized model with the weights that it stands for, an adapter's products added."""
    weights = {name: unpack(own).dequantized() for name, own in contents.matrices.items()}
    if adapter is not None:
        for name, (a, b) in adapter.factors.items():
            weights[name] = weights[name] + np.float32(adapter.scale) * (b @ a)
    params = {name: own if name == "embedding" else own.T for name, own in weights.items()}
    params |= {name: np.array(own) for name, own in contents.vectors.items()}
    shape = Shape.from_dict(contents.shape.to_dict())
    card: dict[str, Any] = {"base_sha256": contents.digest}
    if contents.context is not None:
        card["context"] = contents.context
    return Model(params, shape, contents.tokenizer, card)


def _model(arguments: argparse.Namespace, model: Model, folder: str, stem: str) -> str:
    """Write a model; where to."""
    if arguments.format == "hf":
        from trainer.export_hf import export_hf, is_exported

        target: str = arguments.to or folder
        if is_same(target, arguments.model) or os.path.isfile(os.path.join(target, "model.json")):
            raise InputError(f"--to is {target}, the model itself; name another folder")
        if os.path.exists(target) and not is_exported(target):
            raise InputError(f"{target} is there and is no exported model; name another --to")
        export_hf(model, target, arguments.dtype or "float32")
        return target
    need("train", "gguf")
    from trainer.export_gguf import export_gguf

    kind = arguments.format.removeprefix("gguf-")
    target = arguments.to or f"{stem}-{kind}.gguf"
    _not_lost(arguments, target)
    export_gguf(model, target, kind)
    return target


def _lora(arguments: argparse.Namespace, contents: Contents, adapter: Adapter | None) -> str:
    """Write an adapter; where to."""
    if adapter is None:
        raise InputError(f"--format {LORA} writes an adapter; give --adapter")
    need("train", "gguf")
    from trainer.export_lora import export_lora

    target: str = arguments.to or f"{os.path.abspath(arguments.adapter)}.gguf"
    _not_lost(arguments, target)
    shape = Shape.from_dict(contents.shape.to_dict())
    export_lora(target, shape, adapter.factors, adapter.scale)
    return target


def _not_lost(arguments: argparse.Namespace, target: str) -> None:
    """Raises ``InputError`` where a file would replace what is read or something that is no such
    file, or has no folder."""
    check_folder(target)
    check_apart(target, arguments.model, arguments.adapter)
    check_own(target, lambda path: begins_with(path, GGUF), "GGUF file")
