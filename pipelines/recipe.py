"""A recipe: the stages of a corpus in order, their options, their rules, and its sources.

Recipes are YAML. They are checked against the registry of stages before anything is read, and a
mistake is answered with its line and with what is allowed there. Two recipes that mean the same
have the same canonical form, and so the same hash.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.resources
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from filters.rules import Rule
from filters.signal import Bound
from filters.stages import EXTRACT, GLOBAL, STAGES, StageSpec
from pipelines.inputs import KINDS
from pipelines.yaml_tree import RecipeError, Tree, parse

SOURCE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
RULE_KEYS = ("signal", "min", "max", "one_of", "none_of", "action", "unless")
STAGE_KEYS = ("options", "rules")
SOURCE_KEYS = ("kind", "input", "options", "stages", "prefix")
TOP_KEYS = ("name", "description", "caps", "stages", "sources", "keep_rejected")


ON_CRASH = ("dead_letter", "fail")


@dataclass(frozen=True)
class Caps:
    """What one record may cost before it becomes a dead letter.

    ``seconds`` is the time one stage may take on one document; the rest are sizes in bytes: of a
    record as stored, of its payload after content decoding, of a page. The stage ``extract`` has
    caps of its own on markup. Sizes come first and are exact; the time cap is the last resort,
    because a clock is not. A stage that does not come back to Python is out of reach of that cap;
    after ``hang_seconds`` it takes its worker down. A record that has done so twice, by that or
    by a crash or for want of memory, becomes a dead letter, or with ``on_crash: fail`` ends the
    run. ``part_bytes`` is the size of the parts in which workers share a large file.
    """

    seconds: float = 30.0
    hang_seconds: float = 120.0
    record_bytes: int = 32 << 20
    expanded_bytes: int = 64 << 20
    page_bytes: int = 8 << 20
    part_bytes: int = 64 << 20
    on_crash: str = "dead_letter"

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, int | float) and not value > 0:
                raise ValueError(f"the cap {name} is {value}; it must be above 0")
        if self.on_crash not in ON_CRASH:
            raise ValueError(f"on_crash is {self.on_crash!r}; use one of {', '.join(ON_CRASH)}")
        if self.hang_seconds < self.seconds:
            raise ValueError(
                f"the cap hang_seconds is {self.hang_seconds:g}; it must be at least seconds "
                f"({self.seconds:g}), which is given up first"
            )


@dataclass(frozen=True)
class StageSettings:
    """One stage of a recipe: its name, its options as the registry's dataclass, its rules."""

    name: str
    options: Any
    rules: tuple[Rule, ...] = ()

    @property
    def spec(self) -> StageSpec:
        """The stage's entry in the registry."""
        return STAGES[self.name]

    def named_files(self) -> tuple[str, ...]:
        """The paths of files and folders that the options name."""
        found: list[str] = []
        for option in self.spec.files:
            value = getattr(self.options, option)
            found += [value] if isinstance(value, str) else value
        return tuple(found)

    def with_files(self, place: Callable[[str], str]) -> StageSettings:
        """The same stage with each of these paths replaced by its place."""
        changes: dict[str, Any] = {}
        for option in self.spec.files:
            value = getattr(self.options, option)
            changes[option] = (
                place(value) if isinstance(value, str) else tuple(place(path) for path in value)
            )
        return dataclasses.replace(self, options=dataclasses.replace(self.options, **changes))

    def canonical(self, *, rules: bool = True) -> dict[str, Any]:
        """Plain data that says all that matters; without ``rules``, what measuring depends on."""
        plain: dict[str, Any] = {"stage": self.name, "options": dataclasses.asdict(self.options)}
        if rules:
            plain["rules"] = [dataclasses.asdict(rule) for rule in self.rules]
        return plain


@dataclass(frozen=True)
class Source:
    """A named source: what to read, how, and where it differs, its own stages."""

    name: str
    kind: str = "auto"
    input: tuple[str, ...] = ()
    prefix: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    stages: tuple[StageSettings, ...] | None = None


@dataclass(frozen=True)
class Recipe:
    """A checked recipe. ``sources`` are in order of preference among duplicates."""

    name: str
    description: str
    stages: tuple[StageSettings, ...]
    caps: Caps = Caps()
    sources: tuple[Source, ...] = ()
    keep_rejected: bool = True

    def source(self, name: str) -> Source:
        """The source of that name."""
        return next(source for source in self.sources if source.name == name)

    def chain(self, source: str) -> tuple[StageSettings, ...]:
        """The stages that documents of ``source`` pass, in order."""
        own = self.source(source).stages
        return self.stages if own is None else own

    def stage(self, name: str) -> StageSettings | None:
        """The recipe's settings of a stage, or ``None`` where it has none."""
        return next((stage for stage in self.stages if stage.name == name), None)

    def canonical(self) -> dict[str, Any]:
        """Plain data equal for recipes that mean the same, whatever files they read."""
        return {
            "name": self.name,
            "caps": dataclasses.asdict(self.caps),
            "stages": [stage.canonical() for stage in self.stages],
            "keep_rejected": self.keep_rejected,
            "sources": [
                {
                    "name": source.name,
                    "options": dict(source.options),
                    "stages": None
                    if source.stages is None
                    else [stage.canonical() for stage in source.stages],
                }
                for source in self.sources
            ],
        }

    @property
    def hash(self) -> str:
        """The SHA-256 of the canonical form."""
        return digest(self.canonical())

    def with_sources(self, sources: Iterable[Source]) -> Recipe:
        """The same recipe over other sources."""
        return dataclasses.replace(self, sources=tuple(sources))


def digest(value: Any) -> str:
    """The SHA-256 of plain data in one canonical JSON form."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def shipped() -> list[str]:
    """The names of the recipes that come with the package."""
    folder = importlib.resources.files("recipes")
    return sorted(
        p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")
    )


def load(name_or_path: str) -> Recipe:
    """Read a recipe by the name of a shipped one, or from a file.

    Raises:
      RecipeError: there is none of that name, or it is not valid.
    """
    if name_or_path in shipped():
        resource = importlib.resources.files("recipes") / f"{name_or_path}.yaml"
        return from_text(resource.read_text("utf-8"), f"{name_or_path}.yaml")
    if not os.path.isfile(name_or_path):
        raise RecipeError(
            f"no recipe {name_or_path!r}; shipped: {', '.join(shipped())}; or give a file's path"
        )
    try:
        with open(name_or_path, encoding="utf-8") as handle:
            text = handle.read()
    except UnicodeDecodeError:
        raise RecipeError(f"{name_or_path}: not UTF-8 text") from None
    except OSError as error:
        raise RecipeError(f"{name_or_path}: {error.strerror}") from None
    return from_text(text, name_or_path)


def from_text(text: str, name: str = "recipe") -> Recipe:
    """Check a recipe's text and build it. ``name`` stands in error messages."""
    top = parse(text, name).mapping("a recipe", TOP_KEYS)
    for key in ("name", "stages"):
        if key not in top:
            raise RecipeError(f"{name}: the key {key!r} is missing")
    stages = _stages(top["stages"])
    recipe = Recipe(
        name=top["name"].text("name"),
        description=top["description"].text("description") if "description" in top else "",
        stages=stages,
        caps=_options(top["caps"], Caps(), "caps") if "caps" in top else Caps(),
        sources=_sources(top["sources"], stages) if "sources" in top else (),
        keep_rejected=_flag(top["keep_rejected"]) if "keep_rejected" in top else True,
    )
    return recipe


def _flag(tree: Tree) -> bool:
    if not isinstance(tree.value, bool):
        raise tree.fail(f"must be true or false, not {tree.value!r}")
    return tree.value


def _stages(tree: Tree) -> tuple[StageSettings, ...]:
    """The list of stages: each is a name, or one name with its options and rules."""
    stages: list[StageSettings] = []
    for item in tree.items("stages"):
        if isinstance(item.value, str):
            name, body = item.value, None
        else:
            entry = item.mapping("a stage")
            if len(entry) != 1:
                raise item.fail("a stage is one name with its options and rules below it")
            name, body = next(iter(entry.items()))
        if name not in STAGES:
            raise item.fail(f"unknown stage {name!r}; known: {', '.join(STAGES)}")
        if any(stage.name == name for stage in stages):
            raise item.fail(f"the stage {name!r} stands twice")
        stages.append(_stage(name, body))
    _check_order(tree, stages)
    return tuple(stages)


def _stage(name: str, body: Tree | None) -> StageSettings:
    spec = STAGES[name]
    if body is None or body.value is None:
        return StageSettings(name, spec.options())
    content = body.mapping(f"the stage {name!r}", STAGE_KEYS)
    what = f"the options of {name!r}"
    options = _options(content["options"], spec.options(), what) if "options" in content else None
    rules = _rules(content["rules"], spec) if "rules" in content else ()
    return StageSettings(name, options or spec.options(), rules)


def _check_order(tree: Tree, stages: list[StageSettings]) -> None:
    """Stages come in phases: what runs before extraction, what measures, what is global."""
    order = [stage.spec.phase for stage in stages]
    if order != sorted(order):
        wrong = next(s for s, after in zip(stages[1:], order, strict=False) if s.spec.phase < after)
        raise tree.fail(
            f"the stage {wrong.name!r} comes too late; stages go in the order " + ", ".join(STAGES)
        )
    if not stages or stages[0].name != "read":
        raise tree.fail("the first stage must be 'read'")
    if not any(stage.name == "extract" for stage in stages):
        raise tree.fail("the stage 'extract' is missing")
    _check_rules(tree, stages)


def _check_rules(tree: Tree, stages: list[StageSettings]) -> None:
    """Rule names are unique, what lifts a rule is measured where the rule is asked, and a file that
    a stage needs is named."""
    measured = {s.name: stage.spec.phase for stage in stages for s in stage.spec.signals}
    taken: dict[str, str] = {}
    for stage in stages:
        for option in stage.spec.files:
            if getattr(stage.options, option) == "":
                raise tree.fail(f"the stage {stage.name!r} needs the option {option!r}, a path")
        for name in getattr(stage.options, "spare", ()):
            if measured.get(name, stage.spec.phase + 1) > stage.spec.phase:
                raise tree.fail(
                    f"the stage {stage.name!r} is to spare {name}, which no stage here measures"
                )
        for rule in stage.rules:
            if taken.setdefault(rule.name, stage.name) != stage.name:
                raise tree.fail(
                    f"the rule {rule.name!r} stands in the stages {taken[rule.name]!r} and "
                    f"{stage.name!r}; give one of them another name"
                )
            for name in rule.unless:
                if name not in measured:
                    raise tree.fail(
                        f"the rule {rule.name!r} has unless: {name}, which no stage here measures"
                    )
                # Rules before extraction take effect at once; all others once all is measured.
                if stage.spec.phase < EXTRACT <= measured[name]:
                    raise tree.fail(
                        f"the rule {rule.name!r} is asked before extraction and cannot have "
                        f"unless: {name}, which is measured later"
                    )
            _check_range(tree, rule)


def _check_range(tree: Tree, rule: Rule) -> None:
    """Duplicates are told by the bound itself, so it must be a similarity."""
    bound = rule.bound.max
    if rule.signal == "dedup.jaccard" and (bound is None or not 0 <= bound <= 1):
        raise tree.fail(f"the rule {rule.name!r} needs a max from 0 to 1, not {bound}")


def _options(tree: Tree, default: Any, what: str) -> Any:
    """Fill a dataclass of options; the type of each default is the type asked for."""
    fields = {f.name: getattr(default, f.name) for f in dataclasses.fields(default)}
    changes: dict[str, Any] = {}
    for key, child in tree.mapping(what, list(fields)).items():
        present = fields[key]
        label = f"{key!r} in {what}"
        if isinstance(present, bool):
            changes[key] = _flag(child)
        elif isinstance(present, int):
            number = child.number(label)
            if number != int(number):
                raise child.fail(f"{label} must be a whole number, not {number!r}")
            changes[key] = int(number)
        elif isinstance(present, float):
            changes[key] = float(child.number(label))
        elif isinstance(present, tuple):
            changes[key] = child.texts(label)
        else:
            changes[key] = child.text(label)
    try:
        return dataclasses.replace(default, **changes)
    except ValueError as error:
        raise tree.fail(str(error)) from None


def _rules(tree: Tree, spec: StageSpec) -> tuple[Rule, ...]:
    """Rules by name. The name is the signal's, unless the rule says which signal it bounds."""
    known = [signal.name for signal in spec.signals]
    rules = []
    for name, body in tree.mapping(f"the rules of {spec.name!r}").items():
        content = body.mapping(f"the rule {name!r}", RULE_KEYS)
        signal = content["signal"].text("signal") if "signal" in content else name
        if signal not in known:
            raise body.fail(
                f"the stage {spec.name!r} measures no signal {signal!r}; it has: "
                + ", ".join(known)
            )
        kind = next(s.kind for s in spec.signals if s.name == signal)
        rules.append(
            Rule(
                stage=spec.name,
                name=name,
                signal=signal,
                bound=_bound(body, content, signal, kind),
                action=_action(content),
                unless=content["unless"].texts("unless") if "unless" in content else (),
            )
        )
    return tuple(rules)


def _action(content: Mapping[str, Tree]) -> Any:
    if "action" not in content:
        return "drop"
    action = content["action"].text("action")
    if action not in ("drop", "tag"):
        raise content["action"].fail(f"action must be drop or tag, not {action!r}")
    return action


def _bound(body: Tree, content: Mapping[str, Tree], signal: str, kind: str) -> Bound:
    numbers = {end: content[end].number(end) for end in ("min", "max") if end in content}
    for end, number in numbers.items():
        if math.isnan(number):
            raise content[end].fail(f"{end} is not a number")
    words = {key: content[key].texts(key) for key in ("one_of", "none_of") if key in content}
    if not numbers and not words:
        raise body.fail("a rule needs a bound: min, max, one_of or none_of")
    if numbers and kind == "str":
        raise body.fail(f"{signal!r} is text: bound it with one_of or none_of")
    if words and kind != "str":
        raise body.fail(f"{signal!r} is a number: bound it with min or max")
    if len(numbers) == 2 and numbers["min"] > numbers["max"]:
        raise body.fail(f"min {numbers['min']} is above max {numbers['max']}")
    return Bound(
        min=numbers.get("min"),
        max=numbers.get("max"),
        one_of=words.get("one_of"),
        none_of=words.get("none_of"),
    )


def _sources(tree: Tree, stages: tuple[StageSettings, ...]) -> tuple[Source, ...]:
    sources = []
    for name, body in tree.mapping("sources").items():
        content = body.mapping(f"the source {name!r}", SOURCE_KEYS)
        if not SOURCE_NAME.fullmatch(name):
            raise body.fail(
                f"the source name {name!r} becomes part of file names: use at most 64 letters, "
                "digits, '_', '-' and '.', and begin with none of the last two"
            )
        kind = content["kind"].text("kind") if "kind" in content else "auto"
        if kind != "auto" and kind not in KINDS:
            raise content["kind"].fail(f"unknown kind {kind!r}; known: auto, {', '.join(KINDS)}")
        if "input" not in content:
            raise body.fail(f"the source {name!r} names no input")
        if not content["input"].texts("input"):
            raise content["input"].fail(f"the source {name!r} names no input")
        own = None
        if "stages" in content:
            own = _stages(content["stages"])
            _check_global_stages(content["stages"], own, stages)
        options = content.get("options")
        sources.append(
            Source(
                name=name,
                kind=kind,
                input=content["input"].texts("input"),
                prefix=content["prefix"].text("prefix") if "prefix" in content else "",
                options={
                    key: child.text(key)
                    for key, child in (options.mapping("options") if options else {}).items()
                },
                stages=own,
            )
        )
    return tuple(sources)


def _check_global_stages(
    tree: Tree, own: tuple[StageSettings, ...], stages: tuple[StageSettings, ...]
) -> None:
    """A source may leave a global stage out, but all that take part share its settings."""
    for stage in own:
        if stage.spec.phase == GLOBAL and stage not in stages:
            raise tree.fail(
                f"the stage {stage.name!r} works across sources: write its options and rules in "
                "the recipe's stages, and the same or nothing here"
            )
