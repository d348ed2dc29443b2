"""Processes that are started here and nobody else's, each with its log, all ended at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

START_SECONDS = 90.0
LOG_LINES = 15


class NotStarted(RuntimeError):
    """A process ended, or did not answer in time; the message has the end of its log."""


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody listens on a port of the loopback interface."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _ending_with_parent() -> list[str]:
    """Before a command: it is killed when the process that started it is gone, however it went."""
    program = shutil.which("setpriv")
    return [program, "--pdeathsig", "KILL"] if program else []


class Service:
    """A process group with a log file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(
                [*_ending_with_parent(), *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=folder,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether that process still runs."""
        return self.process.poll() is None

    def wait_for(self, port: int, seconds: float = START_SECONDS) -> None:
        """Wait until it listens on a port.

        Raises:
          NotStarted: it ended, or the time is over.
        """
        deadline = time.monotonic() + seconds
        while not answers(port):
            if not self.alive:
                raise NotStarted(f"{self.name} ended with {self.process.returncode}: {self.tail()}")
            if time.monotonic() > deadline:
                raise NotStarted(f"{self.name} does not answer on port {port}: {self.tail()}")
            time.sleep(0.1)

    def tail(self) -> str:
        """The end of its log, and where the whole is."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join([f"log {self.log}", *lines])

    def kill(self) -> None:
        """End the process at once, as a crash would; its children go on."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End the whole process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def children(pid: int) -> list[int]:
    """The processes that a process has started and that still run. Linux only."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(word) for word in task.read_text().split()]
    return found


def descendants(pid: int) -> list[int]:
    """Children, their children, and so on."""
    below = children(pid)
    return [*below, *(deeper for child in below for deeper in descendants(child))]


@contextlib.contextmanager
def workspace(name: str) -> Iterator[Path]:
    """A folder for logs and settings. It stays where something went wrong."""
    folder = Path(tempfile.mkdtemp(prefix=f"cidermill-{name}-"))
    yield folder
    for place, _, names in os.walk(folder, topdown=False):
        for file in names:
            (Path(place) / file).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            os.rmdir(place)
