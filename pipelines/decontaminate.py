"""Decontamination as a composite: which benchmark n-grams are common usage, counted globally.

    (key, verdicts) -> RemoveContamination -> (key, verdicts)

An n-gram that very many documents contain is common usage, and no sign that a benchmark leaked
(AFM 2024, section 3.1). The count runs over distinct documents, after deduplication, in a pass of
its own, so that it does not depend on which document came first. Each input gets back only the
exempted n-grams that occur in it; the decision itself is taken where the text is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import apache_beam as beam
import numpy as np

from pipelines.composite import Composite
from pipelines.metrics import metered
from pipelines.run import Run
from pipelines.sketch import load_input, load_sketches
from pipelines.verdicts import EXACT, EXEMPT, NEAR, VERDICT, Keyed, MergeByInput, rows

HIT = np.dtype([("hash", "<u8"), ("input", "<u8"), ("documents", "<u4")])


class RemoveContamination(Composite):
    """Find the benchmark n-grams that are common usage among the documents still kept."""

    def expand(self, inputs: beam.PCollection) -> beam.PCollection:
        found = (
            inputs
            | "Benchmark n-grams"
            >> beam.FlatMapTuple(
                metered(partial(count_hits, run=self._run), "Benchmark n-grams")
            ).with_output_types(tuple[int, bytes])
            | "Group n-grams" >> beam.GroupByKey()
            | "Common usage"
            >> beam.FlatMapTuple(
                metered(partial(common_usage, run=self._run), "Common usage")
            ).with_output_types(Keyed)
        )
        return (inputs, found) | "Verdicts" >> MergeByInput()


def count_hits(key: str, verdicts: bytes, run: Run) -> Iterator[tuple[int, bytes]]:
    """How many kept documents of an input contain each benchmark n-gram, by hash partition."""
    source = load_input(run.input_file(key)).source
    if not any(stage.name == "decontamination" for stage in run.finishing(source)):
        return
    found = rows(verdicts)
    gone = set(found["number"][np.isin(found["kind"], removing_kinds(run))].tolist())
    hashes = [
        np.frombuffer(ngrams, "<u8")
        for sketches in load_sketches(key, run, ("ngrams",))
        for number, ngrams in zip(sketches.number.tolist(), sketches.binary("ngrams"), strict=True)
        if ngrams is not None and number not in gone
    ]
    if not hashes:
        return
    unique, counts = np.unique(np.concatenate(hashes), return_counts=True)
    records = np.zeros(len(unique), HIT)
    records["hash"] = unique
    records["input"] = int(key, 16)
    records["documents"] = counts
    places = unique % np.uint64(run.partitions)
    for place in np.unique(places):
        yield int(place), records[places == place].tobytes()


def removing_kinds(run: Run) -> list[int]:
    """The kinds of duplicate that the recipe drops, and does not merely tag."""
    settings = run.recipe.stage("duplicates")
    signals = {r.signal for r in settings.rules if r.action == "drop"} if settings else set()
    kinds = {"dedup.exact": EXACT, "dedup.jaccard": NEAR}
    return [kind for signal, kind in kinds.items() if signal in signals]


def common_usage(_partition: int, blobs: Iterable[bytes], run: Run) -> Iterator[Keyed]:
    """The n-grams of a partition that reach the threshold, for each input that has them."""
    settings = run.recipe.stage("decontamination")
    assert settings is not None
    records = np.frombuffer(b"".join(blobs), HIT)
    hashes, where = np.unique(records["hash"], return_inverse=True)
    totals = np.bincount(where, weights=records["documents"], minlength=len(hashes))
    common = records[(totals >= settings.options.common_usage)[where]]
    for key in np.unique(common["input"]):
        mine = common[common["input"] == key]
        verdicts = np.zeros(len(mine), VERDICT)
        verdicts["kind"] = EXEMPT
        padded = np.zeros((len(mine), 2), "<u8")
        padded[:, 0] = mine["hash"]
        verdicts["other"] = padded.view("V16").ravel()
        verdicts["value"] = totals[np.searchsorted(hashes, mine["hash"])]
        yield f"{int(key):010x}", verdicts.tobytes()
