"""A cap on the time that a block of Python may take, in any thread.

Signals reach the main thread only, and an engine's workers run elsewhere. Here one watchdog
thread raises an exception in the thread that is over its time, at the next step of Python code.

A call that stays in native code is not interrupted by that. For it there is a second, harder
limit, which ends the process: the watchdog does so where it can still run, and where the native
code lets no Python run at all, a timer of the kernel does that the watchdog would have put off.
"""

from __future__ import annotations

import ctypes
import heapq
import itertools
import os
import signal
import threading
import time
from types import TracebackType
from typing import Literal

_raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
_numbers = itertools.count()

HANG_SIGNAL = signal.SIGALRM
"""Ends a process that hangs; nothing here handles it."""


class TimeCapExceeded(BaseException):
    """A block ran longer than its cap.

    Not an ``Exception``, so that code which catches those and goes on cannot swallow it.
    """

    explains = True


class _Watch:
    """A deadline of one thread; compares by deadline."""

    __slots__ = ("began", "deadline", "fired", "number", "over", "thread")

    def __init__(self, seconds: float) -> None:
        self.began = time.monotonic()
        self.deadline = self.began + seconds
        self.number = next(_numbers)
        self.thread = threading.get_ident()
        self.over = False
        self.fired = False

    def __lt__(self, other: _Watch) -> bool:
        return (self.deadline, self.number) < (other.deadline, other.number)


class _Watchdog:
    """One thread that sleeps until the nearest deadline.

    Firing and ending hold one lock: either the block ends first and nothing is raised, or the
    exception is pending in the block's thread and is taken back when the block ends.
    """

    def __init__(self, hang_seconds: float | None = None) -> None:
        self._wake = threading.Condition(threading.Lock())
        self._watches: list[_Watch] = []
        self._fired: list[_Watch] = []
        self._wakes_at = 0.0
        self._thread: threading.Thread | None = None
        self._armed = False
        self.hang_seconds = hang_seconds

    def begin(self, watch: _Watch) -> None:
        with self._wake:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="time cap", daemon=True)
                self._thread.start()
            # Watches that ended in time go here, or a long cap would pile up short blocks.
            while self._watches and self._watches[0].over:
                heapq.heappop(self._watches)
            heapq.heappush(self._watches, watch)
            if not self._armed:
                # At once: native code may begin before the watchdog has had a turn.
                self._arm(True)
            if watch.deadline < self._wakes_at:
                self._wake.notify()

    def end(self, watch: _Watch) -> bool:
        """Whether the watch had fired; from now on it will not."""
        with self._wake:
            watch.over = True
            if watch.fired:
                _raise_in(ctypes.c_ulong(watch.thread), None)
            return watch.fired

    def _run(self) -> None:
        with self._wake:
            while True:
                self._fire()
                self._wakes_at = self._next_wake()
                left = self._wakes_at - time.monotonic()
                if left > 0:
                    self._wake.wait(None if left == float("inf") else left)

    def _fire(self) -> None:
        """Raise in the threads that are over their time; end a process that is stuck."""
        now = time.monotonic()
        while self._watches and (self._watches[0].over or self._watches[0].deadline <= now):
            watch = heapq.heappop(self._watches)
            if not watch.over:
                watch.fired = True
                self._fired.append(watch)
                _raise_in(ctypes.c_ulong(watch.thread), ctypes.py_object(TimeCapExceeded))
        self._fired = [watch for watch in self._fired if not watch.over]
        hang = self.hang_seconds
        if hang is not None and any(now - watch.began >= hang for watch in self._fired):
            os.kill(os.getpid(), HANG_SIGNAL)

    def _next_wake(self) -> float:
        """When to look again. Puts the kernel's timer off, or stops it where nothing is watched."""
        deadlines = [watch.deadline for watch in self._watches[:1]]
        waiting = bool(deadlines or self._fired)
        self._arm(waiting)
        if waiting and self.hang_seconds is not None:
            deadlines.append(time.monotonic() + self.hang_seconds / 4)
        return min(deadlines, default=float("inf"))

    def _arm(self, on: bool) -> None:
        """Have the kernel end this process if nobody puts it off in time; or not any more."""
        self._armed = on
        if self.hang_seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, self.hang_seconds if on else 0)


_watchdog = _Watchdog()


def end_when_hanging(seconds: float | None) -> None:
    """From now on a block under a cap that lasts ``seconds`` ends this process by ``HANG_SIGNAL``.

    It is meant for blocks that do not come back from native code to be stopped by their cap. Only
    for worker processes, whose end somebody notices. ``None`` takes it back.
    """
    _watchdog.hang_seconds = seconds
    if seconds is None:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _renew() -> None:
    """A forked process has the watchdog's memory but not its thread."""
    global _watchdog  # noqa: PLW0603 - the one watchdog of a process
    _watchdog = _Watchdog(_watchdog.hang_seconds)


os.register_at_fork(after_in_child=_renew)


class time_cap:
    """Context manager: raise ``TimeCapExceeded`` in this thread after so many seconds.

    Caps nest. The exception never appears behind the block: one that is still pending when the
    block ends is taken back, and raised here.
    """

    __slots__ = ("_seconds", "_watch")

    def __init__(self, seconds: float) -> None:
        if not seconds > 0:
            raise ValueError(f"a time cap of {seconds} seconds; it must be above 0")
        self._seconds = seconds

    def __enter__(self) -> None:
        self._watch = watch = _Watch(self._seconds)
        try:
            _watchdog.begin(watch)
        except BaseException:
            # An outer cap fired just here: this watch must not fire later.
            watch.over = True
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Literal[False]:
        while True:
            try:
                fired = _watchdog.end(self._watch)
                break
            except TimeCapExceeded:
                continue
        if fired:
            raise TimeCapExceeded(f"ran longer than {self._seconds:g} seconds") from None
        return False
