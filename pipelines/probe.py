"""A probe: suspect records are tried in a child process, one by one, before a worker takes them.

A record that crashes the interpreter, hangs in native code or eats all memory takes down a child
and not the worker. The child says what it is about to do; where it dies twice at one record, that
record is *condemned*: the worker turns it into a dead letter without touching it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from filters.document import DeadLetter
from pipelines.attempts import DEADLY, attempt
from pipelines.inputs import Input
from pipelines.run import Run

CHILD = "import pipelines.quiet, pipelines.probe_child; pipelines.probe_child.main()"


WORKER_ENDED = "WorkerEnded"
"""The error of a dead letter for a record that takes down its worker."""


class PoisonedRecord(RuntimeError):
    """A record takes down every worker that touches it, and the recipe says to fail then."""


@dataclass(frozen=True, slots=True)
class Condemned:
    """A record that took its process down: in which stage, how, and its address if known."""

    stage: str
    how: str
    url: str

    def letter(self, record: str) -> DeadLetter:
        """The dead letter for it; ``record`` is its id."""
        message = f"ended its worker by {self.how}"
        return DeadLetter(record, self.stage, WORKER_ENDED, message, self.url)


@contextlib.contextmanager
def attempt_at(item: Input, task: str, notes: str, run: Run) -> Iterator[Probe | None]:
    """Note an attempt at an input while the block runs; gives a probe where others died at it.

    ``notes`` is what the notes of this task on this input begin with.
    """
    with attempt(notes) as died:
        if died < DEADLY:
            yield None
            return
        with Probe(item, task, run) as probe:
            yield probe


class Probe:
    """Tries the records of one input in a child process, in order.

    ``task`` is ``measure`` (positions of the input's records) or ``finish`` (places of documents
    in its stored batches). Use as a context manager; leaving it ends the child.
    """

    def __init__(self, item: Input, task: str, run: Run) -> None:
        self._item = item
        self._task = task
        self._run = run
        self._child: subprocess.Popen[bytes] | None = None
        self._events: Iterator[dict[str, Any]] = iter(())
        self._passed = -1
        self._deaths = 0

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def try_record(self, place: int) -> Condemned | None:
        """Have the child go through everything up to ``place``; what that record did to it.

        Places must be asked for in rising order, each that the child meets.

        Raises:
          PoisonedRecord: the record is condemned and the recipe's ``on_crash`` is ``fail``.
        """
        while self._passed < place:
            if self._child is None:
                self._start(place)
            state = {"stage": "read", "url": ""}
            if self._follow(place, state):
                self._passed, self._deaths = place, 0
                return None
            how = self._end()
            self._deaths += 1
            if self._deaths >= DEADLY:
                self._passed, self._deaths = place, 0
                return self._condemn(Condemned(state["stage"], how, state["url"]))
        return None

    def _follow(self, place: int, state: dict[str, str]) -> bool:
        """Listen until the child has done ``place``; false where it died before that."""
        for event in self._events:
            if "stage" in event:
                state.update(event)
            elif event["done"] >= place:
                return True
            else:
                state.update(stage="read", url="")
        return False

    def _condemn(self, found: Condemned) -> Condemned:
        if self._run.recipe.caps.on_crash == "fail":
            raise PoisonedRecord(
                f"{self._item.paths[0]}: a record ({found.url or 'address unknown'}) ended its "
                f"worker {DEADLY} times by {found.how} in stage {found.stage}; leave it out, give "
                "more memory, or set on_crash: dead_letter in the recipe's caps"
            )
        return found

    def _start(self, place: int) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        order = (self._run, self._item.to_json(), self._task, place)
        self._child.stdin.write(base64.b64encode(pickle.dumps(order)) + b"\n")
        self._child.stdin.close()
        self._events = map(json.loads, self._child.stdout)
        if next(self._events, None) is None:
            raise RuntimeError(f"a probe of {self._item.name} could not start: {self._end()}")

    def _end(self) -> str:
        """End the child; how it had ended by itself, if it had."""
        if self._child is None:
            return ""
        assert self._child.stdout is not None
        try:
            # Its output has ended where it died by itself; then it is gone in a moment.
            code = self._child.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            self._child.kill()
            code = self._child.wait()
        self._child.stdout.close()
        self._child = None
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
