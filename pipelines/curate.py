"""The graph: raw inputs in, final tables out, on one screen.

    inputs - screen - remove duplicates - remove contamination - write documents

Each step is a composite that others can use in graphs of their own. Between them travel only
``(input key, packed verdicts)`` pairs; texts wait in the work directory until they are written.
"""

from __future__ import annotations

from collections.abc import Iterable

import apache_beam as beam

from pipelines.decontaminate import RemoveContamination
from pipelines.deduplicate import RemoveExactDuplicates, RemoveNearDuplicates
from pipelines.finish import WriteDocuments
from pipelines.inputs import Input
from pipelines.run import Run
from pipelines.screen import ScreenInputs


class ResolveInputs(beam.PTransform):  # type: ignore[misc]
    """All that is decided across documents: from screened inputs to the verdicts on each."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def expand(self, screened: beam.PCollection) -> beam.PCollection:
        return (
            screened
            | "Remove exact duplicates" >> RemoveExactDuplicates(self._run)
            | "Remove near duplicates" >> RemoveNearDuplicates(self._run)
            | "Remove contamination" >> RemoveContamination(self._run)
        )


class Curate(beam.PTransform):  # type: ignore[misc]
    """Curate every input of a collection of ``Input`` in JSON; gives ``(key, account)``."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def expand(self, inputs: beam.PCollection) -> beam.PCollection:
        return (
            inputs
            | "Screen" >> ScreenInputs(self._run)
            | "Resolve" >> ResolveInputs(self._run)
            | "Finish" >> WriteDocuments(self._run)
        )


def curate(pipeline: beam.Pipeline, inputs: Iterable[Input], run: Run) -> beam.PCollection:
    """The whole graph over these inputs."""
    tasks = [item.to_json() for item in inputs]
    return pipeline | "Inputs" >> beam.Create(tasks).with_output_types(str) | Curate(run)
