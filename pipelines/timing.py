"""Times of stages by worker: for people, never for results."""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import Mapping

Seconds = dict[str, Counter[str]]
"""Seconds by worker and stage."""


def worker_name() -> str:
    """This worker: machine, process and thread."""
    return f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident() % 100_000}"


def add(total: Seconds, spent: Mapping[str, Mapping[str, float]]) -> None:
    """Add seconds by worker and stage."""
    for worker, stages in spent.items():
        total.setdefault(worker, Counter()).update(stages)
