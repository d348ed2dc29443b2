"""Workers that take steps on command, so that what is compared takes turns in one run.

A worker is a process with one model. It prints one line of JSON when it is ready, then for each
number it reads from its input takes so many steps and prints another: seconds, CPU seconds, peak
memory, the loss. Standard library only: the other side's interpreter imports it as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def keep_to_cores(threads: int) -> None:
    """Let this process run on so many cores. Call it before a library counts them."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < threads:
        raise SystemExit(f"{threads} threads on {len(cores)} cores; give --threads {len(cores)}")
    os.sched_setaffinity(0, cores[:threads])


def same_settings(folder: str, **settings: object) -> None:
    """Note what the runs in a folder are of; ends the program where it was noted otherwise."""
    path, wanted = Path(folder) / "settings.json", json.dumps(settings, indent=1, sort_keys=True)
    Path(folder).mkdir(parents=True, exist_ok=True)
    if path.exists() and path.read_text() != wanted:
        raise SystemExit(f"{folder} holds runs of other settings ({path}); give another --to")
    path.write_text(wanted)


def peak_memory() -> int:
    """The most bytes of this process that were resident at one time."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


def serve(step: Callable[[], float]) -> None:
    """Take steps on command until the input ends. ``step`` gives a loss, and is done by then."""
    _say({"peak": peak_memory()})
    for line in sys.stdin:
        count = int(line)
        wall, cpu = time.perf_counter(), time.process_time()
        loss = [step() for _ in range(count)][-1]
        _say(
            {
                "seconds": time.perf_counter() - wall,
                "cpu": time.process_time() - cpu,
                "peak": peak_memory(),
                "loss": loss,
            }
        )


def _say(row: dict[str, float]) -> None:
    print(json.dumps(row), flush=True)


class Worker:
    """The other end of ``serve``."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None):
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
        self.ready = self._hear()

    def take(self, steps: int) -> dict[str, Any]:
        """What the worker says of so many steps."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        return self._hear()

    def close(self) -> None:
        """End the worker."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args} ended early; what it said is above")
        found: dict[str, Any] = json.loads(line)
        return found
