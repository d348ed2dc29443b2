"""The configuration of an adapter: what of PEFT's fields is taken, and what is refused.

Of the fields of PEFT's ``LoraConfig`` (huggingface/peft 0.21, ``tuners/lora/config.py``) some only
tell how an adapter was trained, some are heeded, and of all others each must be off, whether it is
known or not: a field that is passed over could change what the adapter computes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from tokenizer.shown import shown

CONFIG = "adapter_config.json"
BASE = "cidermill_base_sha256"
"""The field that names the quantized base."""
OWN = "cidermill_"
"""How names of our own fields begin; they tell and change nothing."""

MAX_CONFIG_BYTES = 1 << 20
MAX_ALPHA = 1e6

TELLING = frozenset({
    "auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision",
    "runtime_config", "task_type",
    "lora_dropout",  # in training alone
    "corda_config", "eva_config", "loftq_config", "lora_ga_config",  # see init_lora_weights
    "megatron_core", "qalora_group_size",  # nothing without megatron_config and use_qalora
    "ensure_weight_tying",  # of the embedding, which no adapter here has
})  # fmt: skip
"""Fields that change no result, at any value."""
HEEDED = frozenset({
    "bias", "exclude_modules", "init_lora_weights", "layers_pattern", "layers_to_transform",
    "lora_alpha", "peft_type", "r", "target_modules", "use_rslora",
})  # fmt: skip
UNSUPPORTED = frozenset({
    "alora_invocation_tokens", "alpha_pattern", "arrow_config", "fan_in_fan_out", "kasa_config",
    "layer_replication", "lora_bias", "megatron_config", "modules_to_save", "monteclora_config",
    "rank_pattern", "target_parameters", "trainable_token_indices", "use_bdlora", "use_dora",
    "use_qalora", "velora_config",
})  # fmt: skip
"""Fields that stand for what the runtime does not compute, unless they are off."""
STARTS = ("gaussian", "eva", "orthogonal")
"""Values of ``init_lora_weights`` that leave the base as it is. PiSSA, OLoRA, CorDA, LoftQ and
LoRA-GA take from its weights what the adapter begins with, so the adapter fits no other base."""
ALL_LINEAR = "all-linear"


class AdapterError(ValueError):
    """A folder that holds no adapter for this model; the message names the file and the fault."""


def parse_config(path: str, content: bytes) -> dict[str, Any]:
    """The fields of a file.

    Raises:
      AdapterError: it is no JSON, or is of a kind that the runtime does not compute.
    """
    try:
        found = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        raise AdapterError(f"{path} is damaged: it is no JSON") from None
    if not isinstance(found, dict) or found.get("peft_type") != "LORA":
        raise AdapterError(f"{path} is not the configuration of a LoRA adapter")
    check_fields(path, found)
    return found


def check_fields(path: str, config: Mapping[str, Any]) -> None:
    """Raise ``AdapterError`` if a field asks for what the runtime does not compute."""
    for field, value in config.items():
        fault = _fault(field, value)
        if fault is not None:
            name = field if field in HEEDED | UNSUPPORTED else shown(field)
            raise AdapterError(f"{path}: {name} is {shown(value)}; {fault}")


def _fault(field: str, value: Any) -> str | None:
    """What is wrong with one field, by itself."""
    if field in TELLING or field.startswith(OWN):
        return None
    if field == "bias":
        return None if value == "none" else "the models have none"
    if field == "use_rslora":
        return None if value is None or isinstance(value, bool) else "it must be true or false"
    if field == "init_lora_weights":
        if value is None or isinstance(value, bool) or value in STARTS:
            return None
        return (
            "which may change the weights of the base too; let PEFT save it as a plain LoRA "
            "(path_initial_model_for_weight_conversion)"
        )
    if field in HEEDED or _off(value):
        return None
    if field in UNSUPPORTED:
        return "which is not supported"
    return "a field that is not known; remove it if it changes nothing"


def _off(value: Any) -> bool:
    """Not 0 and no empty string: what they would mean is not known."""
    return value is None or value is False or value in ([], {})


def check_modules(path: str, config: Mapping[str, Any], modules: Iterable[str]) -> None:
    """Compare fields that choose modules with those that a file has factors of.

    PEFT would pass over the factors of a module that they leave out.

    Args:
      modules: names such as ``model.layers.0.self_attn.q_proj``.

    Raises:
      AdapterError: a module is left out, or it cannot be told.
    """
    targets, excluded = (
        _names(path, config, field) for field in ("target_modules", "exclude_modules")
    )
    layers = _layers(path, config)
    for module in modules:
        if targets is not None and not _among(module, targets):
            raise AdapterError(f"{path}: target_modules leaves out {module}, which has factors")
        if excluded is not None and _among(module, excluded):
            raise AdapterError(f"{path}: exclude_modules has {module}, which has factors")
        if layers is not None and int(module.split(".")[2]) not in layers:
            raise AdapterError(f"{path}: layers_to_transform leaves out {module}, with factors")


def _among(module: str, names: list[str]) -> bool:
    """As PEFT compares: the whole name, or parts of it up to its end."""
    return any(f".{module}".endswith(f".{name}") for name in names)


def _names(path: str, config: Mapping[str, Any], field: str) -> list[str] | None:
    """A list of modules, or none that limits anything."""
    found = config.get(field)
    if found is None or (found == ALL_LINEAR and field == "target_modules"):
        return None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise AdapterError(
            f"{path}: {field} is {shown(found)}; it must be a list of names, as patterns are not "
            "supported"
        )
    return found


def _layers(path: str, config: Mapping[str, Any]) -> list[int] | None:
    pattern = config.get("layers_pattern")
    if not _off(pattern) and "layers" not in (pattern if isinstance(pattern, list) else [pattern]):
        raise AdapterError(f"{path}: layers_pattern is {shown(pattern)}; it must be 'layers'")
    found = config.get("layers_to_transform")
    if _off(found):
        return None
    layers: list[Any] = found if isinstance(found, list) else [found]
    if not all(isinstance(layer, int) and not isinstance(layer, bool) for layer in layers):
        raise AdapterError(f"{path}: layers_to_transform is {shown(found)}; it must be numbers")
    return layers


def scale_of(path: str, config: Mapping[str, Any], rank: int) -> float:
    """What the product of two factors of this rank is times.

    Raises:
      AdapterError: the configuration tells another rank, or a scale out of bounds.
    """
    told, alpha = config.get("r"), config.get("lora_alpha")
    if isinstance(told, bool) or not isinstance(told, int) or told != rank:
        raise AdapterError(f"{path} says that r is {shown(told)}, and the factors are of {rank}")
    # Compared with bounds: JSON's whole numbers may be too great for a float.
    if (
        isinstance(alpha, bool)
        or not isinstance(alpha, int | float)
        or not -MAX_ALPHA <= alpha <= MAX_ALPHA
    ):
        raise AdapterError(
            f"{path}: lora_alpha is {shown(alpha)}; it must be a number from -{MAX_ALPHA:g} to "
            f"{MAX_ALPHA:g}"
        )
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") is True else rank)
