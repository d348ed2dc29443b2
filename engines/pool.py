"""A pool of Python workers: what stands beside each Flink TaskManager."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from engines.ports import LOOPBACK
from engines.processes import Service


def start_pool(
    port: int,
    folder: Path,
    name: str = "pool",
    environment: Mapping[str, str] | None = None,
    address: str = LOOPBACK,
) -> Service:
    """Start a worker pool, which starts a process of its own for each worker asked for.

    It answers on the port in a second or two; ``wait_for`` it.
    """
    return Service(
        name,
        [sys.executable, "-m", "pipelines.worker_pool", address, str(port)],
        folder,
        {"PYTHONHASHSEED": "0", **(environment or {})},
    )
