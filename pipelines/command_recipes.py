"""``cidermill recipes``: list the shipped recipes, explain one, or print the reference page."""

from __future__ import annotations

import argparse
import importlib.resources

from pipelines.recipe import Recipe, load, shipped
from pipelines.reference import reference_page


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``recipes`` to the command line."""
    recipes = commands.add_parser(
        "recipes",
        help="list and explain recipes",
        description="Without a name, list the shipped recipes. With one (or a file), check it and "
        "explain its stages and rules.",
    )
    recipes.add_argument("recipe", nargs="?", help="a shipped recipe's name, or a YAML file")
    recipes.add_argument("--yaml", action="store_true", help="print the recipe's own text")
    recipes.add_argument(
        "--reference", action="store_true", help="print the reference of all signals and rules"
    )
    recipes.set_defaults(perform=perform)


def perform(arguments: argparse.Namespace) -> int:
    """List, explain or print."""
    if arguments.reference:
        print(reference_page(), end="")
    elif arguments.recipe is None:
        for name in shipped():
            print(f"{name:<10}{load(name).description}")
        print("\ncidermill recipes NAME explains one; --yaml prints it, to start your own from")
    elif arguments.yaml:
        print(_text(arguments.recipe), end="")
    else:
        print("\n".join(explain(load(arguments.recipe))))
    return 0


def _text(name: str) -> str:
    load(name)
    if name in shipped():
        return (importlib.resources.files("recipes") / f"{name}.yaml").read_text("utf-8")
    with open(name, encoding="utf-8") as handle:
        return handle.read()


def explain(recipe: Recipe) -> list[str]:
    """A recipe in words: each stage, its options that are not the defaults, and its rules."""
    lines = [f"{recipe.name}: {recipe.description}", f"hash {recipe.hash}", ""]
    for stage in recipe.stages:
        lines.append(f"{stage.name}: {stage.spec.summary}")
        defaults = stage.spec.options()
        for key, value in vars(stage.options).items() if hasattr(stage.options, "__dict__") else ():
            if value != getattr(defaults, key):
                lines.append(f"    option {key} = {value}")
        for rule in stage.rules:
            lifted = f", unless {' or '.join(rule.unless)}" if rule.unless else ""
            signal = f" ({rule.signal})" if rule.signal != rule.name else ""
            lines.append(
                f"    {rule.action} unless {rule.name}{signal} {rule.bound.describe()}{lifted}"
            )
    for source in recipe.sources:
        lines.append(f"source {source.name}: {source.kind} {' '.join(source.input)}")
    return lines
