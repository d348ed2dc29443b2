"""The local runner: N worker processes, watched, on slices of the same graph.

Beam's own multi-process mode splits work statically and waits for ever for a worker that was
killed. Here each slice is a small in-process pipeline of the graph's own composites. A worker
that dies or stops answering is noticed within seconds; its slice is run again, input by input.
An input that has brought down two workers is read under a probe (``pipelines.probe``), which
finds the record; one that fails otherwise, twice, ends the run with its name.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pickle
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Protocol

from pipelines.inputs import Input
from pipelines.inputs_error import RunFailed
from pipelines.parts import is_large, stored_parts
from pipelines.run import Run

SLICE_BYTES = 64 << 20
SLICE_INPUTS = 64
SILENCE_SECONDS = 60.0
"""A worker's Python thread speaks every two seconds. One that hangs ends itself after the cap
``hang_seconds``; one that is silent for so long beyond that was stopped."""

MAX_FAILURES = 2
MAX_DEATHS = 5
"""Attempts at one input that may fail with an error, and that may lose their worker: two that are
needed to make it suspect, and some that had nothing to do with it."""

WORKER = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "import pipelines.quiet, pipelines.worker; pipelines.worker.main()"
)
"""Ctrl-C reaches the whole process group; the supervisor alone answers it and ends its workers."""

Listener = Callable[[dict[str, Any]], None]


class WorkerFailed(RunFailed):
    """A slice of the work failed twice; the message names the input."""


class Item(Protocol):
    """A piece of work that has a size in bytes and travels as JSON: an input, a unit, a group."""

    @property
    def key(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def place(self) -> str: ...
    @property
    def size(self) -> int: ...
    def to_json(self) -> str: ...


class Job(Protocol):
    """What a pool works for. It is pickled, and each worker gets it first."""

    @property
    def hang_seconds(self) -> float: ...
    def in_workers(self) -> Job: ...
    def forgive(self, task: str, item: Any) -> None: ...


@dataclass
class Task:
    """A slice of work: what to do with which inputs, and how often it has failed."""

    name: str
    inputs: list[Any]
    failures: int = 0
    deaths: int = 0

    def to_json(self) -> str:
        """The line that a worker reads."""
        return json.dumps({"task": self.name, "inputs": [i.to_json() for i in self.inputs]})


def slices(name: str, inputs: Iterable[Item], workers: int) -> list[Task]:
    """Group inputs into tasks by bytes, largest first; small ones share a task."""
    tasks: list[Task] = []
    ordered = sorted(inputs, key=lambda item: (-item.size, item.key))
    total = sum(item.size for item in ordered)
    bound = max(1, min(SLICE_BYTES, total // (workers * 4) or 1))
    size = 0
    for item in ordered:
        room = tasks and size + item.size <= bound and len(tasks[-1].inputs) < SLICE_INPUTS
        if not room:
            tasks.append(Task(name, []))
            size = 0
        tasks[-1].inputs.append(item)
        size += item.size
    return tasks


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    task: Task | None = None
    heard: float = field(default_factory=time.monotonic)
    pending: bytes = b""

    @property
    def output(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def send(self, line: str) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()


class Pool:
    """Worker processes that live through several phases of one run.

    Use as a context manager; leaving it ends every process. ``listener`` gets each event.
    """

    def __init__(self, job: Job, workers: int, listener: Listener) -> None:
        self._job = job
        self._count = workers
        self._listener = listener
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._silence = job.hang_seconds + SILENCE_SECONDS

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in list(self._workers):
            self._end(worker)
            if worker.task is not None:
                # Workers that are ended on purpose leave notes that would make inputs suspect.
                for item in worker.task.inputs:
                    self._job.forgive(worker.task.name, item)
        self._selector.close()

    def perform(self, tasks: Sequence[Task]) -> None:
        """Run all tasks. Raises ``WorkerFailed`` when one has failed for good."""
        queue = deque(tasks)
        while queue or any(worker.task for worker in self._workers):
            while len(self._workers) < min(self._count, len(queue) + self._busy()):
                self._start()
            for worker in self._workers:
                if worker.task is None and queue:
                    worker.task = queue.popleft()
                    worker.heard = time.monotonic()
                    worker.send(worker.task.to_json())
            self._listen(queue)

    def _busy(self) -> int:
        return sum(worker.task is not None for worker in self._workers)

    def _start(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
        worker = _Worker(process)
        os.set_blocking(worker.output.fileno(), False)
        self._selector.register(worker.output, selectors.EVENT_READ, worker)
        self._workers.append(worker)
        worker.send(base64.b64encode(pickle.dumps(self._job.in_workers())).decode())

    def _listen(self, queue: deque[Task]) -> None:
        for key, _ in self._selector.select(timeout=1.0):
            worker: _Worker = key.data
            for event in _events(worker):
                self._hear(worker, event, queue)
            if worker.process.poll() is not None:
                self._lost(worker, queue)
        now = time.monotonic()
        for worker in list(self._workers):
            if worker.process.poll() is not None:
                self._lost(worker, queue)
            elif worker.task and now - worker.heard > self._silence:
                worker.process.kill()
                worker.process.wait()
                self._lost(worker, queue)

    def _hear(self, worker: _Worker, event: dict[str, Any], queue: deque[Task]) -> None:
        worker.heard = time.monotonic()
        if event["event"] == "done":
            worker.task = None
        elif event["event"] == "failed":
            task, worker.task = worker.task, None
            assert task is not None
            task.failures += 1
            self._again(task, f"{event['error']}: {event['message']}", queue)
        self._listener(event)

    def _lost(self, worker: _Worker, queue: deque[Task]) -> None:
        """A worker is gone: run its slice again elsewhere, input by input."""
        if worker not in self._workers:
            return
        for event in _events(worker):
            self._hear(worker, event, queue)
        code = worker.process.returncode
        task = worker.task
        self._end(worker)
        if task is None:
            return
        how = f"was ended by signal {signal.Signals(-code).name}" if code < 0 else f"exited {code}"
        if code == -signal.SIGKILL:
            how += " (out of memory, or stuck in native code)"
        self._listener({"event": "lost", "how": how, "inputs": [i.name for i in task.inputs]})
        task.deaths += 1
        self._again(task, f"its worker {how}", queue)

    def _again(self, task: Task, reason: str, queue: deque[Task]) -> None:
        whole = task.name == "resolve"
        parts = [task.inputs] if whole else [[item] for item in task.inputs]
        if len(parts) == 1 and (task.failures >= MAX_FAILURES or task.deaths >= MAX_DEATHS):
            where = f"{len(task.inputs)} inputs" if whole else f"input {task.inputs[0].place}"
            raise WorkerFailed(
                f"{task.name} of {where} failed {task.failures + task.deaths} times: {reason}. "
                "What is finished stays; leave the input out, lower a cap in the recipe, or give "
                "more memory, and run the same command again"
            )
        # Of several inputs only one was to blame, and each now gets its own chances.
        counts = (task.failures, task.deaths) if len(parts) == 1 else (0, 0)
        queue.extendleft(Task(task.name, part, *counts) for part in reversed(parts))

    def _end(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        self._selector.unregister(worker.output)
        if worker.process.poll() is None:
            worker.process.kill()
        worker.process.wait()
        worker.output.close()
        if worker.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                worker.process.stdin.close()


def _events(worker: _Worker) -> Iterator[dict[str, Any]]:
    """Whole lines that have arrived from a worker."""
    while piece := worker.output.read(1 << 16):
        worker.pending += piece
    *lines, worker.pending = worker.pending.split(b"\n")
    for line in lines:
        yield json.loads(line)


def run_locally(run: Run, inputs: Sequence[Input], workers: int, listener: Listener) -> None:
    """The whole graph on this machine in waves: split, screen, resolve, finish.

    The waves are the composites of the graph; what lies between them is on disk, so that each
    may be run by other processes than the one before. What earlier runs finished is skipped.
    """
    with Pool(run, workers, listener) as pool:
        large = [item for item in inputs if is_large(item, run)]
        if large:
            listener({"event": "phase", "phase": "split", "inputs": len(large)})
            pool.perform([Task("split", [item]) for item in large])
        parts = [part for item in inputs for part in stored_parts(item, run)]
        listener({"event": "phase", "phase": "screen", "inputs": sizes(parts)})
        pool.perform(slices("screen", parts, workers))
        listener({"event": "phase", "phase": "resolve", "inputs": sizes(parts)})
        pool.perform([Task("resolve", parts)])
        listener({"event": "phase", "phase": "finish", "inputs": sizes(parts)})
        pool.perform(slices("finish", parts, workers))


def sizes(parts: Sequence[Item]) -> dict[str, int]:
    return {part.key: part.size for part in parts}
