"""What a worker tells its supervisor while it works: one JSON line an event.

Outside the local supervisor nothing listens and nothing is written. Events never reach an output
file, so they may carry times.
"""

from __future__ import annotations

import json
import os
import threading
from typing import Any

_lock = threading.Lock()
_channel: int | None = None


def listen(descriptor: int) -> None:
    """From now on write this process's events to an open file descriptor."""
    global _channel  # noqa: PLW0603 - one channel a process, set once by the worker's entry point
    _channel = descriptor


def tell(event: str, **facts: Any) -> None:
    """Write one event, if anybody listens."""
    if _channel is None:
        return
    line = json.dumps({"event": event, **facts}) + "\n"
    with _lock:
        os.write(_channel, line.encode())


def batch_done(key: str, records: int, kept: int, offset: int) -> None:
    """A batch of an input is measured and stored.

    ``kept`` documents have passed all rules on single documents; ``offset`` is how far into the
    file the batch goes.
    """
    tell("batch", input=key, records=records, kept=kept, offset=offset)
