"""Files that a recipe's options name: their digests, which belong to the run's hashes."""

from __future__ import annotations

import os

from pipelines import files
from pipelines.benchmark_indexes import DEMO
from pipelines.inputs_error import InputError
from pipelines.recipe import Recipe


def resource_digests(recipe: Recipe) -> tuple[tuple[str, str], ...]:
    """(path, SHA-256) of every file named in an option that a stage declares as files.

    Raises:
      InputError: a named file does not exist.
    """
    found: dict[str, str] = {}
    for source in recipe.sources:
        for stage in recipe.chain(source.name):
            for option in stage.spec.files:
                for path in getattr(stage.options, option):
                    if path != DEMO:
                        found[path] = _digest(path)
    return tuple(sorted(found.items()))


def _digest(path: str) -> str:
    if files.is_local(path) and not os.path.exists(path):
        raise InputError(f"the recipe names {path}, which does not exist")
    if files.is_local(path) and os.path.isdir(path):
        rows = files.listing(path.rstrip("/") + "/*")
        return ":".join(files.sha256(name) for name, _, _ in rows)
    return files.sha256(path)
