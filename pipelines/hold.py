"""What a command holds while it works: its folders, and the answer to a request to stop."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator
from typing import Any

from pipelines import files
from pipelines.inputs_error import InputError


class Interrupted(RuntimeError):
    """The user or the system asked the run to stop."""


@contextlib.contextmanager
def hold(folder: str, option: str = "--output") -> Iterator[None]:
    """Hold a folder: two runs into one would remove each other's files.

    ``option`` of the command line names another.
    """
    if not files.is_local(folder):
        yield
        return
    try:
        os.makedirs(folder, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"another run is writing to {folder}; wait for it or name another {option}"
            ) from None
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """A polite request to end is answered like Ctrl-C: workers are ended, nothing is lost."""

    def stop(_number: int, _frame: Any) -> None:
        raise Interrupted("stopped")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
