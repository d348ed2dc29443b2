"""The units of a corpus's tables as the beginning of a graph."""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam

from pipelines import corpus, files
from pipelines.corpus import Table
from pipelines.lists import read_list, write_lists


class ReadUnits(beam.PTransform):  # type: ignore[misc]
    """The units of tables, each in JSON, dealt out to all workers.

    Tables travel in lists, and workers look into them: neither the graph nor the submitter's time
    grows with their number.
    """

    def __init__(self, tables: Sequence[Table], work: str) -> None:
        super().__init__()
        self._lists = write_lists(tables, work)

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        return (
            pipeline
            | "Lists of tables" >> beam.Create(self._lists).with_output_types(str)
            | "Tables" >> beam.FlatMap(files.on_store(read_list)).with_output_types(str)
            | "Deal out tables" >> beam.Reshuffle()
            | "Cut in units" >> beam.FlatMap(files.on_store(cut_to_json)).with_output_types(str)
            | "Deal out units" >> beam.Reshuffle()
        )


def cut_to_json(text: str) -> list[str]:
    """The units of a table, in JSON both."""
    return [unit.to_json() for unit in corpus.cut(Table.from_json(text))]
