"""Which benchmark indexes a run decontaminates against, and their loading."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from filters.decontamination import index
from filters.decontamination.index import BenchmarkIndex, demo_index
from filters.decontamination.tables import Tables
from pipelines.inputs_error import InputError
from pipelines.recipe import Recipe, StageSettings

DEMO = "demo"
"""The name of the small invented benchmark that comes with the package."""


def resolve_benchmarks(recipe: Recipe, named: Sequence[str]) -> Recipe:
    """The recipe with the indexes the command line names, where it names any."""
    if not named:
        return recipe
    if recipe.stage("decontamination") is None:
        raise InputError(
            f"--benchmarks is given, but the recipe {recipe.name!r} has no stage 'decontamination'"
        )

    def change(stages: tuple[StageSettings, ...]) -> tuple[StageSettings, ...]:
        return tuple(
            dataclasses.replace(
                stage, options=dataclasses.replace(stage.options, benchmarks=tuple(named))
            )
            if stage.name == "decontamination"
            else stage
            for stage in stages
        )

    sources = tuple(
        source
        if source.stages is None
        else dataclasses.replace(source, stages=change(source.stages))
        for source in recipe.sources
    )
    return dataclasses.replace(recipe, stages=change(recipe.stages), sources=sources)


@functools.cache
def open_index(names: tuple[str, ...]) -> BenchmarkIndex:
    """The indexes of these names as one, opened once per process.

    Raises:
      ValueError: an index is damaged, or of another version; the message names the folder.
    """
    tables: list[Tables] = []
    for name in names:
        tables += demo_index().tables if name == DEMO else index.open_index(name).tables
    return BenchmarkIndex(tuple(tables), "")
