"""Prism, Beam's portable runner on one machine, with a pool of Python workers beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from engines import fetch
from engines.pool import start_pool
from engines.ports import free_port
from engines.processes import NotStarted, Service, workspace


@dataclass
class Prism:
    """A running Prism. It starts one Python worker for each job."""

    folder: Path
    job_port: int
    pool_port: int
    job_service: Service
    pool: Service

    def options(self) -> list[str]:
        """Options for ``cidermill curate``."""
        return [
            "--runner=prism",
            f"--job_endpoint=localhost:{self.job_port}",
            "--environment_type=EXTERNAL",
            f"--environment_config=localhost:{self.pool_port}",
        ]

    def services(self) -> list[Service]:
        """The processes that were started and still run."""
        return [service for service in (self.job_service, self.pool) if service.alive]


@contextlib.contextmanager
def prism(environment: Mapping[str, str] | None = None) -> Iterator[Prism]:
    """A Prism while the block runs. Its job service listens on all interfaces of the machine.

    Raises:
      NotStarted: it was not fetched, or it does not start.
    """
    program = fetch.prism_program()
    if not program.exists():
        raise NotStarted(f"no Prism in {fetch.cache()}; run: python -m engines fetch prism")
    with workspace("prism") as folder, contextlib.ExitStack() as stack:
        job_port, pool_port = free_port(), free_port()
        command = [str(program), "-job_port", str(job_port), "-serve_http=false"]
        service = Service("prism", command, folder)
        stack.callback(service.stop)
        pool = start_pool(pool_port, folder, environment=environment)
        stack.callback(pool.stop)
        service.wait_for(job_port)
        pool.wait_for(pool_port)
        yield Prism(folder, job_port, pool_port, service, pool)
