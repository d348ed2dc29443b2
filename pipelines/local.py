"""The local runner: N worker processes, watched, on slices of the same graph.

Beam's own multi-process mode splits work statically and waits for ever for a worker that was
killed. Here each slice is a small in-process pipeline of the graph's own composites. A worker
that dies or stops answering is noticed within seconds; its slice is run again, input by input,
and an input that brings down a worker twice ends the run with its name.
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
from typing import IO, Any

from pipelines.inputs import Input
from pipelines.run import Run

SLICE_BYTES = 64 << 20
SLICE_INPUTS = 64
SILENCE_SECONDS = 120.0
"""A worker's Python thread speaks every two seconds; one silent for so long is stuck in native
code, or stopped."""

MAX_FAILURES = 2

WORKER = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "import pipelines.quiet, pipelines.worker; pipelines.worker.main()"
)
"""Ctrl-C reaches the whole process group; the supervisor alone answers it and ends its workers."""

Listener = Callable[[dict[str, Any]], None]


class WorkerFailed(RuntimeError):
    """A slice of the work failed twice; the message names the input."""


@dataclass
class Task:
    """A slice of work: what to do with which inputs, and how often it has failed."""

    name: str
    inputs: list[Input]
    failures: int = 0

    def to_json(self) -> str:
        """The line that a worker reads."""
        return json.dumps({"task": self.name, "inputs": [i.to_json() for i in self.inputs]})


def slices(name: str, inputs: Iterable[Input], workers: int) -> list[Task]:
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

    def __init__(self, run: Run, workers: int, listener: Listener) -> None:
        self._run = run
        self._count = workers
        self._listener = listener
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in list(self._workers):
            self._end(worker)
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
        worker.send(base64.b64encode(pickle.dumps(self._run)).decode())

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
            elif worker.task and now - worker.heard > SILENCE_SECONDS:
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
        self._again(task, f"its worker {how}", queue)

    def _again(self, task: Task, reason: str, queue: deque[Task]) -> None:
        failures = task.failures + 1
        whole = task.name == "resolve"
        parts = [task.inputs] if whole else [[item] for item in task.inputs]
        if failures >= MAX_FAILURES and len(parts) == 1:
            what = task.inputs[0].paths[0] if len(parts) == 1 and task.name != "resolve" else ""
            where = f"input {what}" if what else f"{len(task.inputs)} inputs"
            raise WorkerFailed(
                f"{task.name} of {where} failed {failures} times: {reason}. What is finished "
                "stays; leave the input out, lower a cap in the recipe, or give more memory, and "
                "run the same command again"
            )
        # Of several inputs only one was to blame, and each now gets its own two chances.
        count = failures if len(parts) == 1 else 0
        queue.extendleft(Task(task.name, part, count) for part in reversed(parts))

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
    """The whole graph on this machine in three waves: screen, resolve, finish.

    The waves are the composites of the graph; what lies between them is on disk, so that each
    may be run by other processes than the one before. What earlier runs finished is skipped.
    """
    with Pool(run, workers, listener) as pool:
        listener({"event": "phase", "phase": "screen", "inputs": len(inputs)})
        pool.perform(slices("screen", inputs, workers))
        listener({"event": "phase", "phase": "resolve", "inputs": len(inputs)})
        pool.perform([Task("resolve", list(inputs))])
        listener({"event": "phase", "phase": "finish", "inputs": len(inputs)})
        pool.perform(slices("finish", inputs, workers))
