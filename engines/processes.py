"""Processes that are started here and nobody else's, each with its log, all ended at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from engines.ports import LOOPBACK, answers, free_port

__all__ = ["NotStarted", "Service", "children", "descendants", "free_port", "workspace"]

START_SECONDS = 180.0
POLL_SECONDS = 0.1
LOG_LINES = 15
LEASH = Path(__file__).with_name("leash.py")


class NotStarted(RuntimeError):
    """A process ended, or did not answer in time; the message has the end of its log."""


class Service:
    """A process group with a log file. Its processes die with the one that started it.

    Raises:
      NotStarted: the system is not Linux.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        if sys.platform != "linux":
            raise NotStarted(f"engines run on Linux only, and this is {sys.platform}")
        self.name = name
        self.log = folder / f"{name}.log"
        leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid())]
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(
                [*leash, *command],
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
        return not self._ended(os.WNOHANG)

    def _ended(self, how: int = 0) -> bool:
        # Not reaped before ``stop``: until then the number cannot become a stranger's group.
        if self.process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | how) is not None

    def wait_until(
        self, ready: Callable[[], bool], what: str, seconds: float = START_SECONDS
    ) -> None:
        """Wait until it is ready; ``what`` says in words what it does then.

        Raises:
          NotStarted: it ended, or the time is over.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.alive:
                raise NotStarted(f"{self.name} ended before it {what}: {self.tail()}")
            if time.monotonic() > deadline:
                raise NotStarted(f"{self.name}: not after {seconds:g} s {what}: {self.tail()}")
            time.sleep(POLL_SECONDS)

    def wait_for(self, port: int, address: str = LOOPBACK, seconds: float = START_SECONDS) -> None:
        """Wait until it listens on a port.

        Raises:
          NotStarted: it ended, or the time is over.
        """
        self.wait_until(lambda: answers(port, address), f"answers on {address}:{port}", seconds)

    def tail(self) -> str:
        """The end of its log, and where the whole is."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join([f"log {self.log}", *lines])

    def kill(self) -> None:
        """End the process at once, as a crash would; its children go on."""
        if self.process.returncode is None:
            os.kill(self.pid, signal.SIGKILL)
            self._ended()

    def stop(self) -> None:
        """End the whole process group."""
        if self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()


def children(pid: int) -> list[int]:
    """The processes that a process has started and that still run."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(word) for word in task.read_text().split()]
    return [child for child in found if _runs(child)]


def _runs(pid: int) -> bool:
    """Whether a process is more than the entry of a dead one that nobody has asked after."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    # The state follows the name, which is in parentheses and may hold some itself.
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def descendants(pid: int) -> list[int]:
    """Children, their children, and so on."""
    below = children(pid)
    return [*below, *(deeper for child in below for deeper in descendants(child))]


@contextlib.contextmanager
def workspace(name: str) -> Iterator[Path]:
    """A folder for logs and settings. It stays where something went wrong."""
    folder = Path(tempfile.mkdtemp(prefix=f"cidermill-{name}-"))
    try:
        yield folder
    except KeyboardInterrupt:
        _remove(folder)
        raise
    _remove(folder)


def _remove(folder: Path) -> None:
    # What processes that are just ending still write there must not turn into an error.
    shutil.rmtree(folder, ignore_errors=True)
