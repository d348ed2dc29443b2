"""The child process of a probe: does to each record what a worker would, and stores nothing."""

from __future__ import annotations

import base64
import ctypes
import json
import os
import pickle
import signal
import sys
from collections.abc import Iterator
from typing import Any

from filters import cap
from filters.batch import Batch
from filters.document import Document
from filters.rules import removed_by
from pipelines import memory, tables
from pipelines.decide import local_decisions
from pipelines.finish import NOTHING, finish_stage
from pipelines.inputs import Input
from pipelines.read import Records
from pipelines.run import Run
from pipelines.screen import measure_stage, stored_batches
from pipelines.sketch import sketch_table

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Follow the order on the standard input, from the process that started this one."""
    channel = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _end_with_parent()
    memory.volunteer()
    run, text, task, place = pickle.loads(base64.b64decode(sys.stdin.readline()))
    cap.end_when_hanging(run.recipe.caps.hang_seconds)
    item = Input.from_json(text)
    os.write(channel, b'{"ready": true}\n')
    walk = _measure if task == "measure" else _finish
    for event in walk(item, place, run):
        os.write(channel, (json.dumps(event) + "\n").encode())


def _end_with_parent() -> None:
    """Not to go on for a worker that was killed. Linux only; elsewhere the closed pipe ends us."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _measure(item: Input, start: int, run: Run) -> Iterator[dict[str, Any]]:
    """Read and measure the records from position ``start`` on; what is about to happen, each time.

    What the reader does to a record happens when the next item is asked for: the position is
    told before, in ``accept``.
    """
    records = Records(run, item, start, 0)
    for position, record in records:
        if isinstance(record, Document):
            batch = Batch(item.key, 0, position, position + 1, [record])
            for stage in run.measuring(item.source):
                yield {"stage": stage.name, "url": record.url}
                measure_stage(batch, stage, run)
            _store_nowhere(batch, item, run)
        yield {"done": position}
    yield {"done": 1 << 62}


def _store_nowhere(batch: Batch, item: Input, run: Run) -> None:
    signals = run.signals(item.source, measured=True)
    tables.to_bytes(tables.measured_table(batch.documents, batch.letters, batch.edits, signals))
    sketch_table(batch, item, run)


def _finish(item: Input, start: int, run: Run) -> Iterator[dict[str, Any]]:
    """Finish every stored document that local rules keep, from the place ``start`` on."""
    stages = [run.local(stage) for stage in run.measuring(item.source)]
    for batch in stored_batches(item, run):
        for place, document in enumerate(batch.documents, batch.first):
            if place < start:
                continue
            dead = document.id in batch.dead
            if not dead and removed_by(local_decisions(document, stages)) is None:
                alone = Batch(item.key, batch.number, place, place + 1, [document])
                for stage in run.finishing(item.source):
                    yield {"stage": stage.name, "url": document.url}
                    finish_stage(stage, alone, NOTHING, run)
            yield {"done": place}
    yield {"done": 1 << 62}
