"""Mixtures as YAML: the shipped ones of ``recipes/mixtures``, and a user's own."""

from __future__ import annotations

import math
from fractions import Fraction

from pipelines.shipped import read_shipped_or_own, shipped_names
from pipelines.yaml_tree import RecipeError, Tree, parse
from tokenizer.mixture import Component, Mixture

FOLDER = "mixtures"
TOP_KEYS = ("name", "description", "sequence_length", "long_tokens", "ignore", "components")
COMPONENT_KEYS = ("name", "sources", "share", "max_repeats", "optional")


def shipped_mixtures() -> tuple[str, ...]:
    """The names of the mixtures that come with the package."""
    return shipped_names(FOLDER)


def load_mixture(name: str) -> Mixture:
    """A shipped mixture by its name, or one of a file.

    Raises:
      RecipeError: neither, or not a mixture; with file, line, and what is allowed.
    """
    return parse_mixture(read_shipped_or_own(name, FOLDER, "mixture"), name)


def parse_mixture(text: str, name: str) -> Mixture:
    """A mixture from its YAML. Raises ``RecipeError``."""
    tree = parse(text, name)
    top = tree.mapping("a mixture", TOP_KEYS)
    for key in ("name", "sequence_length", "components"):
        if key not in top:
            raise tree.fail(f"a mixture needs {key!r}")
    components = tuple(_component(child) for child in top["components"].items("components"))
    try:
        return Mixture(
            top["name"].text("name"),
            top["description"].text("description") if "description" in top else "",
            _whole(top["sequence_length"], "sequence_length"),
            components,
            _whole(top["long_tokens"], "long_tokens") if "long_tokens" in top else None,
            top["ignore"].texts("ignore") if "ignore" in top else (),
        )
    except RecipeError:
        raise
    except ValueError as error:
        raise tree.fail(str(error)) from None


def _component(tree: Tree) -> Component:
    fields = tree.mapping("a component", COMPONENT_KEYS)
    for key in ("name", "sources"):
        if key not in fields:
            raise tree.fail(f"a component needs {key!r}")
    optional = fields["optional"].value if "optional" in fields else False
    if not isinstance(optional, bool):
        raise tree.fail(f"optional must be true or false, not {optional!r}")
    try:
        return Component(
            fields["name"].text("name"),
            fields["sources"].texts("sources"),
            _exact(fields["share"], "share") if "share" in fields else None,
            _exact(fields["max_repeats"], "max_repeats")
            if "max_repeats" in fields
            else Fraction(1),
            optional,
        )
    except RecipeError:
        raise
    except ValueError as error:
        raise tree.fail(str(error)) from None


def _whole(tree: Tree, what: str) -> int:
    number = tree.number(what)
    if not isinstance(number, int):
        raise tree.fail(f"{what} must be a whole number, not {number!r}")
    return number


def _exact(tree: Tree, what: str) -> Fraction:
    """The number as it is written: 0.1 is a tenth and not the nearest binary fraction."""
    number = tree.number(what)
    if not math.isfinite(number):
        raise tree.fail(f"{what} must be a number, not {number}")
    return Fraction(str(number))
