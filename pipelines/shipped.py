"""YAML files that come with the package in a folder of ``recipes``, and a user's own."""

from __future__ import annotations

import importlib.resources
import os

from pipelines.yaml_tree import RecipeError


def shipped_names(folder: str) -> tuple[str, ...]:
    """The names of the files in a folder of ``recipes``, without their ending, sorted."""
    found = (entry.name for entry in (importlib.resources.files("recipes") / folder).iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml")))


def read_shipped_or_own(name: str, folder: str, what: str) -> str:
    """The text of a shipped file by its name, or of a file by its path.

    Raises:
      RecipeError: there is neither, or it cannot be read; ``what`` is what it should have been.
    """
    names = shipped_names(folder)
    if name in names:
        path = importlib.resources.files("recipes") / folder / f"{name}.yaml"
        return path.read_text("utf-8")
    if not os.path.isfile(name):
        raise RecipeError(f"no {what} {name!r}: give a YAML file or one of {', '.join(names)}")
    try:
        with open(name, encoding="utf-8") as handle:
            return handle.read()
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{name}: cannot be read: {error}") from None
