"""Who is to go when the machine runs out of memory: a worker, not the one that watches it."""

from __future__ import annotations

import contextlib

_OOM_SCORE = "/proc/self/oom_score_adj"
WORKER_SCORE = 800
"""Of 1000: the kernel ends such a process before others that are as large."""


def volunteer() -> None:
    """Offer this process to the kernel's out-of-memory killer. No effect where it has none."""
    with contextlib.suppress(OSError), open(_OOM_SCORE, "w") as handle:
        handle.write(str(WORKER_SCORE))
