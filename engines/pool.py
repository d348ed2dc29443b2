"""Beam's pool of Python workers: what stands beside each Flink TaskManager."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from engines.processes import Service


def start_pool(
    port: int, folder: Path, name: str = "pool", environment: Mapping[str, str] | None = None
) -> Service:
    """Start a worker pool on a port; it starts a process of its own for each worker asked for.

    A job knows one address of pools. On one machine several pools share the port, and the kernel
    deals the calls out to them.
    """
    # The pool starts `python` from the path: it must be this one.
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ.get('PATH', '')}"
    command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main"]
    service = Service(
        name,
        [*command, f"--service_port={port}"],
        folder,
        {"PATH": path, "PYTHONHASHSEED": "0", **(environment or {})},
    )
    service.wait_for(port)
    return service
