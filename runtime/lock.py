"""A lock that a forked process has anew: of the threads that held it, none is in the child."""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType


class Lock:
    """As ``threading.RLock`` in a ``with``; free in a process that was just forked. What is thrown
    away while its own thread holds the lock may take it once more."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        self._lock.release()


_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


def _renew() -> None:
    for lock in _locks:
        lock._lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # not on every system
    os.register_at_fork(after_in_child=_renew)
