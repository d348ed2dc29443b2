"""Flink: inside Beam's job service, or as a cluster of processes of its own."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines import fetch
from engines.java import java
from engines.pool import start_pool
from engines.ports import LOOPBACK, free_port
from engines.processes import START_SECONDS, NotStarted, Service, children, workspace
from engines.settings import hosts, write_settings

DRIVER = "org.apache.beam.runners.flink.FlinkJobServerDriver"
JOBMANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
TASKMANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"

MAX_TASKMANAGERS = 254
"""Each has an address 127.0.1.N."""

WORKERS = "workers"
"""The host that a job on a cluster names for its pools: to each TaskManager another address."""


@dataclass
class Place:
    """Where a TaskManager runs: the address of its pool, and who is there now."""

    number: int
    address: str
    pool: Service
    taskmanager: Service | None = None


@dataclass
class Flink:
    """A running Flink with Beam's job service before it and worker pools beside it."""

    folder: Path
    parallelism: int
    environment: Mapping[str, str] = field(default_factory=dict)
    job_port: int = field(default_factory=free_port)
    artifact_port: int = field(default_factory=free_port)
    pool_port: int = field(default_factory=free_port)
    rest_port: int = field(default_factory=free_port)
    pool_host: str = WORKERS
    job_service: Service | None = None
    jobmanager: Service | None = None
    taskmanagers: list[Service] = field(default_factory=list)
    pools: list[Service] = field(default_factory=list)
    _places: list[Place] = field(default_factory=list)
    _started: list[Service] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def options(self) -> list[str]:
        """Options for ``cidermill curate``."""
        return [
            "--runner=flink",
            f"--job_endpoint=localhost:{self.job_port}",
            f"--artifact_endpoint=localhost:{self.artifact_port}",
            "--environment_type=EXTERNAL",
            f"--environment_config={self.pool_host}:{self.pool_port}",
            f"--parallelism={self.parallelism}",
        ]

    def start_jobmanager(self) -> Service:
        """Start the JobManager; it knows nothing of jobs of an earlier one."""
        self.jobmanager = self._start_flink("jobmanager", "512m", JOBMANAGER)
        return self.jobmanager

    def start_taskmanager(self) -> Service:
        """One more TaskManager, which joins within seconds.

        It takes the place, and the pool, of one that is gone, or it gets a new place.
        """
        place = self._free_place()
        names = self.folder / f"hosts-{place.number}"
        names.write_text(hosts(WORKERS, place.address))
        service = self._start_flink(
            "taskmanager", "528m", TASKMANAGER, f"-Djdk.net.hosts.file={names}"
        )
        place.taskmanager = service
        self.taskmanagers.append(service)
        return service

    def workers(self) -> list[int]:
        """The Python workers that run now, on all pools."""
        return [pid for pool in self.pools for pid in children(pool.pid)]

    def rest(self, path: str) -> Any:
        """What the JobManager's REST interface answers."""
        address = f"http://127.0.0.1:{self.rest_port}{path}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return json.load(answer)

    def wait_for_slots(self, count: int, seconds: float = START_SECONDS) -> None:
        """Wait until so many slots have joined a JobManager, and all pools answer.

        Raises:
          NotStarted: the time is over, or a process ended.
        """
        if self.jobmanager is not None:
            self.jobmanager.wait_until(self._rest_answers, f"answers on port {self.rest_port}")
        for place in self._places:
            place.pool.wait_for(self.pool_port, place.address)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError):
                if self.rest("/overview")["slots-total"] >= count:
                    return
            time.sleep(0.2)
        said = "\n".join(manager.tail() for manager in self.taskmanagers)
        raise NotStarted(f"{count} slots did not join in {seconds:g} s: {said}")

    def services(self) -> list[Service]:
        """All processes that were started and still run."""
        return [service for service in self._started if service.alive]

    def stop(self) -> None:
        """End all of it."""
        for service in reversed(self._started):
            service.stop()

    # --- how its parts are started ----------------------------------------------------------------

    def start_job_service(self, master: str) -> Service:
        """Start Beam's job service for a Flink master."""
        classes = fetch.job_service_classes().read_text().strip()
        (self.folder / "artifacts").mkdir()
        return self._start(
            "job-service",
            *java("1500m", "-cp", classes),
            DRIVER,
            f"--flink-master={master}",
            f"--flink-conf-dir={self.folder}",
            "--job-host=localhost",
            f"--job-port={self.job_port}",
            f"--artifact-port={self.artifact_port}",
            "--expansion-port=0",
            f"--artifacts-dir={self.folder}/artifacts",
        )

    def start_pool(self, name: str, address: str) -> Service:
        """Start a pool of Python workers on the common port of an address."""
        pool = start_pool(self.pool_port, self.folder, name, self.environment, address)
        self._started.append(pool)
        self.pools.append(pool)
        return pool

    def _start(self, name: str, *command: str) -> Service:
        service = Service(name, command, self.folder)
        self._started.append(service)
        return service

    def _start_flink(self, name: str, heap: str, entry: str, *more: str) -> Service:
        options = ["-cp", f"{fetch.flink_home()}/lib/*", *more,
                   f"-Dlog4j.configurationFile={self.folder}/log4j2.properties"]  # fmt: skip
        command = [*java(heap, *options), entry, "--configDir", str(self.folder)]
        return self._start(f"{name}-{next(self._numbers)}", *command)

    def _free_place(self) -> Place:
        for place in self._places:
            if place.taskmanager is None or not place.taskmanager.alive:
                break
        else:
            number = len(self._places)
            if number == MAX_TASKMANAGERS:
                raise NotStarted(f"at most {MAX_TASKMANAGERS} TaskManagers have an address")
            # All of 127/8 is Linux's loopback.
            address = f"127.0.1.{number + 1}"
            place = Place(number, address, self.start_pool(f"pool-{number}", address))
            self._places.append(place)
        if not place.pool.alive:
            self.pools.remove(place.pool)
            place.pool.stop()
            place.pool = self.start_pool(f"pool-{place.number}", place.address)
        return place

    def _rest_answers(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return bool(self.rest("/overview"))
        return False


@contextlib.contextmanager
def embedded(parallelism: int = 2, environment: Mapping[str, str] | None = None) -> Iterator[Flink]:
    """A Flink inside Beam's job service, on its master ``[local]``."""
    with _running("flink-embedded", parallelism, environment) as flink:
        flink.pool_host = "localhost"
        pool = flink.start_pool("pool", LOOPBACK)
        flink.job_service = flink.start_job_service("[local]")
        flink.job_service.wait_for(flink.job_port)
        pool.wait_for(flink.pool_port)
        yield flink


@contextlib.contextmanager
def cluster(taskmanagers: int = 2, environment: Mapping[str, str] | None = None) -> Iterator[Flink]:
    """A JobManager, so many TaskManagers of one slot with a worker pool each, a job service."""
    with _running("flink-cluster", taskmanagers, environment) as flink:
        flink.start_jobmanager()
        for _ in range(taskmanagers):
            flink.start_taskmanager()
        flink.job_service = flink.start_job_service(f"localhost:{flink.rest_port}")
        flink.job_service.wait_for(flink.job_port)
        flink.wait_for_slots(taskmanagers)
        yield flink


@contextlib.contextmanager
def _running(name: str, parallelism: int, environment: Mapping[str, str] | None) -> Iterator[Flink]:
    if not fetch.job_service_classes().exists():
        raise NotStarted(f"no Flink in {fetch.cache()}; run: python -m engines fetch flink")
    with workspace(name) as folder:
        flink = Flink(folder, parallelism, environment or {})
        write_settings(folder, flink.rest_port, free_port())
        try:
            yield flink
        finally:
            flink.stop()
