"""The graph: raw inputs in, final tables out, on one screen.

    inputs - split - screen - remove duplicates - remove contamination - write documents

Each step is a composite that others can use in graphs of their own. Between them travel only
``(input key, packed verdicts)`` pairs; texts wait in the work directory until they are written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import apache_beam as beam

from pipelines import files
from pipelines.composite import Composite
from pipelines.decontaminate import RemoveContamination
from pipelines.deduplicate import RemoveExactDuplicates, RemoveNearDuplicates
from pipelines.finish import WriteDocuments
from pipelines.inputs import Input
from pipelines.run import Run
from pipelines.screen import ScreenInputs, SplitInputs

LIST_INPUTS = 1000
"""Inputs in one list: some 400 kB, which one worker reads and deals out."""


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
    lists = write_lists(inputs, run)
    return (
        pipeline
        | "Lists of inputs" >> beam.Create(lists).with_output_types(str)
        | "Inputs" >> beam.FlatMap(read_list).with_output_types(str)
        | "Deal out" >> beam.Reshuffle()
        | Curate(run)
    )


def write_lists(inputs: Sequence[Input], run: Run) -> list[str]:
    """Store the descriptions of inputs, the largest first; the files that hold them."""
    ordered = sorted(inputs, key=lambda item: (-item.size, item.key))
    paths = []
    for start in range(0, len(ordered), LIST_INPUTS):
        rows = "".join(item.to_json() + "\n" for item in ordered[start : start + LIST_INPUTS])
        name = hashlib.sha256(rows.encode()).hexdigest()[:16]
        path = files.join(run.work, "lists", f"{name}.jsonl")
        files.write_bytes(path, rows.encode())
        paths.append(path)
    return paths


def read_list(path: str) -> list[str]:
    """The inputs of a list, each in JSON."""
    return files.read_bytes(path).decode().splitlines()
