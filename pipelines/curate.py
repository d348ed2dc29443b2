"""The graph: raw inputs in, final tables out, on one screen.

    inputs - split - screen - remove duplicates - remove contamination - write documents

Each step is a composite that others can use in graphs of their own. Between them travel only
``(input key, packed verdicts)`` pairs; texts wait in the work directory until they are written.
"""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam

from pipelines import files
from pipelines.composite import Composite
from pipelines.decontaminate import RemoveContamination
from pipelines.deduplicate import RemoveExactDuplicates, RemoveNearDuplicates
from pipelines.finish import WriteDocuments
from pipelines.inputs import Input
from pipelines.lists import read_list, write_lists
from pipelines.run import Run
from pipelines.screen import ScreenInputs, SplitInputs


class ResolveInputs(Composite):
    """All that is decided across documents: from screened inputs to the verdicts on each."""

    def expand(self, screened: beam.PCollection) -> beam.PCollection:
        return (
            screened
            | "Remove exact duplicates" >> RemoveExactDuplicates(self._run)
            | "Remove near duplicates" >> RemoveNearDuplicates(self._run)
            | "Remove contamination" >> RemoveContamination(self._run)
        )


class Curate(Composite):
    """Curate every input of a collection of ``Input`` in JSON; gives ``(key, counts)``."""

    def expand(self, inputs: beam.PCollection) -> beam.PCollection:
        return (
            inputs
            | "Split" >> SplitInputs(self._run)
            | "Screen" >> ScreenInputs(self._run)
            | "Resolve" >> ResolveInputs(self._run)
            | "Finish" >> WriteDocuments(self._run)
        )


def curate(pipeline: beam.Pipeline, inputs: Sequence[Input], run: Run) -> beam.PCollection:
    """The whole graph over these inputs.

    The graph carries the names of lists of inputs and not the inputs, so that a million of them
    make a job request no larger than a thousand do.
    """
    paths = write_lists(inputs, run.work)
    return (
        pipeline
        | "Lists of inputs" >> beam.Create(paths).with_output_types(str)
        | "Inputs" >> beam.FlatMap(files.on_store(read_list)).with_output_types(str)
        | "Deal out" >> beam.Reshuffle()
        | Curate(run)
    )
