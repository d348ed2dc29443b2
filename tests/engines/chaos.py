"""Kills at random moments while a run goes on."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from engine_runs import command
from poisoned import environment

SETTLE_SECONDS = (0.5, 6.0)
"""Between two kills, so that some fall into starting, some into work."""


def run_with_kills(
    output: Path, options: Sequence[str], kill: Callable[[], bool], kills: int, seed: int
) -> tuple[int, int, str]:
    """A run during which ``kill`` strikes at random moments; exit code, strikes, standard error.

    ``kill`` says whether there was something to kill.
    """
    chance = random.Random(seed)
    struck = 0
    log = output.with_suffix(".err")
    with open(log, "wb") as err:
        process = subprocess.Popen(
            command(str(output), *options),
            env=environment("none"),
            stdout=subprocess.DEVNULL,
            stderr=err,
        )
        while process.poll() is None:
            if struck < kills:
                time.sleep(chance.uniform(*SETTLE_SECONDS))
                struck += process.poll() is None and kill()
            else:
                process.wait()
    return process.returncode, struck, log.read_text(errors="replace")


def kill_one(found: Sequence[int]) -> bool:
    """``kill -9`` of the newest process of several."""
    for pid in sorted(found, reverse=True):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return True
    return False


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """End a submitting process with all that it started, as a machine that goes down would."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
