"""Beam's pool of Python workers: what stands beside each Flink TaskManager."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from engines.ports import LOOPBACK
from engines.processes import Service

PROGRAM = Path(__file__).with_name("worker_pool.py")


def start_pool(
    port: int,
    folder: Path,
    name: str = "pool",
    environment: Mapping[str, str] | None = None,
    address: str = LOOPBACK,
) -> Service:
    """Start a worker pool on a port; it starts a process of its own for each worker asked for."""
    # The pool starts `python` from the path: it must be this one.
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ.get('PATH', '')}"
    service = Service(
        name,
        # -P: modules of this folder must not hide others of their names.
        [sys.executable, "-P", str(PROGRAM), address, str(port)],
        folder,
        {"PATH": path, "PYTHONHASHSEED": "0", **(environment or {})},
    )
    service.wait_for(port, address)
    return service
