"""A worker process of the local runner: takes slices of the graph's work on its standard input.

The first line is the run, each further line one task, all from the supervisor that started this
process. Every task builds a small Beam pipeline out of the same composites as the whole graph
and runs it in this process. Events go out as JSON lines on what was the standard output.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines import files, guard, metrics, progress
from pipelines.curate import ResolveInputs
from pipelines.finish import WriteDocuments
from pipelines.inputs import Input
from pipelines.pack import PackGroups, TokenizeUnits
from pipelines.pack_run import PackRun
from pipelines.run import Run
from pipelines.screen import ScreenInputs, split_to_json

BEAT_SECONDS = 2.0


def main() -> None:
    """Serve tasks until the standard input ends."""
    channel = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    progress.listen(channel)
    # The line comes from the process that started this one, over its own pipe.
    run: Run | PackRun = pickle.loads(base64.b64decode(sys.stdin.readline()))
    if isinstance(run, Run):
        guard.prepare(run)
    # The supervisor tells of an error in one line; Beam would print its traceback as well.
    logging.disable(logging.CRITICAL)
    threading.Thread(target=_beat, daemon=True).start()
    progress.tell("ready")
    for line in sys.stdin:
        task = json.loads(line)
        try:
            perform(task, run)
        except Exception as error:
            progress.tell("failed", error=type(error).__name__, message=_message(error))
            continue
        progress.tell("done")


def _message(error: Exception) -> str:
    """The first line of an error; Beam wraps it in a longer story."""
    return str(error).strip().split("\n")[0][:500]


def _beat() -> None:
    """Show the supervisor that this process still runs Python; end when the supervisor has."""
    parent = os.getppid()
    while True:
        time.sleep(BEAT_SECONDS)
        if os.getppid() != parent:
            os._exit(1)
        progress.tell("beat")


def perform(task: dict[str, Any], run: Any) -> None:
    """Run one slice of a graph on some inputs: one of ``_BUILD``."""
    inputs: list[str] = task["inputs"]
    # A pipeline sets the options of this process's file systems, so it gets those they have.
    options = PipelineOptions.from_dictionary(files.store_options())
    pipeline = beam.Pipeline(runner="FnApiRunner", options=options)
    _BUILD[task["task"]](pipeline, inputs, run)
    result = pipeline.run()
    result.wait_until_finish()
    counted = metrics.counted(result, metrics.DOCUMENTS)
    shuffled = metrics.counted(result, metrics.SHUFFLES)
    if counted or shuffled:
        progress.tell("counters", counters=counted, shuffled=shuffled)


def _split(pipeline: beam.Pipeline, inputs: list[str], run: Run) -> None:
    _ = pipeline | beam.Create(inputs) | "Split inputs" >> beam.FlatMap(split_to_json, run)


def _screen(pipeline: beam.Pipeline, inputs: list[str], run: Run) -> None:
    created = pipeline | beam.Create(inputs).with_output_types(str)
    _ = created | "Screen" >> ScreenInputs(run)


def _resolve(pipeline: beam.Pipeline, inputs: list[str], run: Run) -> None:
    pairs = [(Input.from_json(text).key, b"") for text in inputs]
    created = pipeline | beam.Create(pairs).with_output_types(tuple[str, bytes])
    resolved = created | "Resolve" >> ResolveInputs(run)
    _ = resolved | beam.MapTuple(partial(_write_verdicts, run=run))


def _finish(pipeline: beam.Pipeline, inputs: list[str], run: Run) -> None:
    keys = [Input.from_json(text).key for text in inputs]
    pairs = pipeline | beam.Create(keys) | beam.Map(_read_verdicts, run)
    _ = pairs | WriteDocuments(run)


def _tokenize(pipeline: beam.Pipeline, units: list[str], run: PackRun) -> None:
    _ = pipeline | beam.Create(units).with_output_types(str) | "Tokenize" >> TokenizeUnits(run)


def _pack(pipeline: beam.Pipeline, groups: list[str], run: PackRun) -> None:
    _ = pipeline | beam.Create(groups).with_output_types(str) | "Pack" >> PackGroups(run)


_BUILD: dict[str, Callable[[beam.Pipeline, list[str], Any], None]] = {
    "split": _split,
    "screen": _screen,
    "resolve": _resolve,
    "finish": _finish,
    "tokenize": _tokenize,
    "pack": _pack,
}

_HEAD = b"verdicts"
"""Before the verdicts in their file: there may be none, and some stores take no empty object."""


def _write_verdicts(key: str, blob: bytes, run: Run) -> str:
    files.write_bytes(run.verdicts_file(key), _HEAD + blob)
    return key


def _read_verdicts(key: str, run: Run) -> tuple[str, bytes]:
    return key, files.read_bytes(run.verdicts_file(key)).removeprefix(_HEAD)
