"""Training recipes as YAML: the shipped ones of ``recipes/training``, and a user's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipelines.amounts import parse_amount, parse_count
from pipelines.shipped import read_shipped_or_own
from pipelines.yaml_tree import RecipeError, Tree, parse
from trainer.shape import PRESETS, Shape, ShapeError, layerwise, preset, uniform
from trainer.stages import Stage, make_optimizer

FOLDER = "training"
TOP_KEYS = ("name", "description", "seed", "model", "stages")
STAGE_KEYS = (
    "name", "mixture", "sequence_length", "tokens", "batch_tokens", "optimizer", "warmup", "floor",
    "rope_base", "keep", "labels", "teacher_share",
)  # fmt: skip
UNIFORM_KEYS = ("width", "layers", "heads", "kv_heads", "head", "hidden")
FLAGS = ("decay_by_rate", "decay_norms")
"""Settings of an optimizer that are true or false."""
BOUNDS = ("clip", "skip", "update_clip")
"""Settings of an optimizer for which null means that there is no bound, as train.json has it."""
LAYERWISE_KEYS = ("width", "layers", "head")


@dataclass(frozen=True)
class Recipe:
    """A model and the stages of its training. ``model`` is the model as it was asked for."""

    name: str
    model: Mapping[str, Any]
    stages: tuple[Stage, ...]
    seed: int = 0

    def shape(self, vocabulary: int) -> Shape:
        """The model's dimensions. Raises ``ShapeError``."""
        return make_shape(self.model, vocabulary)

    def scaled(self, tokens: int | None, step_tokens: int | None) -> Recipe:
        """The same with budgets that sum to ``tokens``, and batches of about ``step_tokens``."""
        total = sum(stage.tokens for stage in self.stages)
        found = []
        for stage in self.stages:
            batch = stage.batch
            if step_tokens is not None:
                batch = max(1, step_tokens // stage.length)
            own = stage.tokens if tokens is None else int(stage.tokens / total * tokens)
            changed: dict[str, float] = {"tokens": own, "batch": batch}
            if stage.warmup >= 1 and (tokens, step_tokens) != (None, None):
                # Steps were meant for the budget; their share is what carries over.
                steps = own // (batch * stage.length)
                changed["warmup"] = max(1, int(stage.warmup / stage.steps * steps))
            found.append(replace(stage, **changed))  # type: ignore[arg-type]
        return replace(self, stages=tuple(found))


def load_training(name: str) -> Recipe:
    """A shipped training recipe by its name, or one of a file.

    Raises:
      RecipeError: neither, or not one; with file, line, and what is allowed.
    """
    return parse_training(read_shipped_or_own(name, FOLDER, "training recipe"), name)


def parse_training(text: str, name: str) -> Recipe:
    """A training recipe from its YAML. Raises ``RecipeError``."""
    tree = parse(text, name)
    top = tree.mapping("a training recipe", TOP_KEYS)
    for key in ("name", "model", "stages"):
        if key not in top:
            raise tree.fail(f"a training recipe needs {key!r}")
    model = _model(top["model"])
    stages = tuple(_stage(child) for child in top["stages"].items("stages"))
    if not stages:
        raise top["stages"].fail("a training recipe needs at least one stage")
    for number, stage in enumerate(stages):
        if stage.name in [other.name for other in stages[:number]]:
            raise top["stages"].fail(f"two stages are called {stage.name!r}")
    seed = _count(top["seed"], "seed") if "seed" in top else 0
    if seed < 0:
        raise top["seed"].fail(f"seed is {seed}; it must be at least 0")
    return Recipe(top["name"].text("name"), model, stages, seed)


def _model(tree: Tree) -> dict[str, Any]:
    allowed = ("preset", "layer_wise", *UNIFORM_KEYS)
    fields = {key: child.value for key, child in tree.mapping("model", allowed).items()}
    try:
        make_shape(fields, 1024)
    except ShapeError as error:
        raise tree.fail(str(error)) from None
    return fields


def make_shape(model: Mapping[str, Any], vocabulary: int) -> Shape:
    """Dimensions from a preset, or from widths and counts.

    Raises:
      ShapeError: something is missing, too much, or out of its bounds.
    """
    layer_wise = model.get("layer_wise", False)
    if not isinstance(layer_wise, bool):
        raise ShapeError(f"layer_wise is {layer_wise!r}; it must be true or false")
    if "preset" in model:
        beside = sorted(set(model) - {"preset", "layer_wise"})
        if beside:
            raise ShapeError(f"a preset has its own {', '.join(beside)}; leave one of them out")
        return preset(str(model["preset"]), vocabulary, layer_wise=layer_wise)
    keys = LAYERWISE_KEYS if layer_wise else UNIFORM_KEYS
    own = {key: value for key, value in model.items() if key != "layer_wise"}
    if set(own) != set(keys):
        raise ShapeError(
            f"a model needs a preset ({', '.join(PRESETS)}), or {', '.join(keys)}; this one has "
            f"{', '.join(own) or 'nothing'}"
        )
    for key, value in own.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ShapeError(f"{key} is {value!r}; it must be a whole number from 1")
    return layerwise(vocabulary, **own) if layer_wise else uniform(vocabulary, **own)


def _stage(tree: Tree) -> Stage:
    fields = tree.mapping("a stage", STAGE_KEYS)
    for key in ("name", "sequence_length", "tokens", "batch_tokens"):
        if key not in fields:
            raise tree.fail(f"a stage needs {key!r}")
    length = _count(fields["sequence_length"], "sequence_length")
    if length < 2:
        raise tree.fail(f"sequence_length is {length}; it must be at least 2")
    step = _count(fields["batch_tokens"], "batch_tokens")
    if step < 1:
        raise tree.fail(f"batch_tokens is {step}; it must be at least 1")
    settings: dict[str, Any] = {
        "name": fields["name"].text("name"),
        "length": length,
        "tokens": _count(fields["tokens"], "tokens"),
        "batch": max(1, step // length),
    }
    for key in ("mixture", "labels"):
        if key in fields:
            settings[key] = fields[key].text(key)
    for key in ("warmup", "floor", "rope_base", "keep", "teacher_share"):
        if key in fields:
            settings[key] = _amount(fields[key], key)
    try:
        if "optimizer" in fields:
            settings["optimizer"] = _optimizer(fields["optimizer"])
        return Stage(**settings)
    except RecipeError:
        raise
    except ValueError as error:
        raise tree.fail(str(error)) from None


def _optimizer(tree: Tree) -> Any:
    fields = dict(tree.mapping("an optimizer"))
    kind = fields.pop("kind").text("kind") if "kind" in fields else "afm"
    settings = {key: _setting(child, key) for key, child in fields.items()}
    try:
        return make_optimizer(kind, settings)
    except ValueError as error:
        raise tree.fail(str(error)) from None


def _setting(tree: Tree, key: str) -> Any:
    """The value of an optimizer's setting, by its type; what there is none of is refused later."""
    if key in FLAGS:
        if not isinstance(tree.value, bool):
            raise tree.fail(f"{key} is {tree.value!r}; it must be true or false")
        return tree.value
    if tree.value is None and key == "mup_width":
        return None
    if tree.value is None and key in BOUNDS:
        return math.inf
    if key in BOUNDS and tree.value == math.inf:
        raise tree.fail(f"{key} is inf; write null for no bound")
    return _count(tree, key) if key == "mup_width" else _amount(tree, key)


def _amount(tree: Tree, what: str) -> float:
    try:
        return parse_amount(tree.value, what)
    except ValueError as error:
        raise tree.fail(str(error)) from None


def _count(tree: Tree, what: str) -> int:
    try:
        return parse_count(tree.value, what)
    except ValueError as error:
        raise tree.fail(str(error)) from None
