"""Flink: inside Beam's job service, or as a cluster of processes of its own."""

from __future__ import annotations

import contextlib
import json
import os
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines import fetch
from engines.java import java
from engines.pool import start_pool
from engines.processes import NotStarted, Service, free_port, workspace

RESTARTS = 20
DRIVER = "org.apache.beam.runners.flink.FlinkJobServerDriver"
JOBMANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
TASKMANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"

SETTINGS = {
    "jobmanager.rpc.address": "localhost",
    "jobmanager.memory.heap.size": "512m",
    "jobmanager.memory.off-heap.size": "128m",
    "jobmanager.memory.jvm-metaspace.size": "160m",
    "jobmanager.memory.jvm-overhead.min": "128m",
    "jobmanager.memory.jvm-overhead.max": "128m",
    "rest.address": "localhost",
    "rest.bind-address": "127.0.0.1",
    "taskmanager.host": "localhost",
    "taskmanager.numberOfTaskSlots": "1",
    "taskmanager.cpu.cores": "1",
    "taskmanager.memory.framework.heap.size": "128m",
    "taskmanager.memory.framework.off-heap.size": "128m",
    "taskmanager.memory.task.heap.size": "400m",
    "taskmanager.memory.task.off-heap.size": "0m",
    "taskmanager.memory.managed.size": "256m",
    "taskmanager.memory.network.min": "64m",
    "taskmanager.memory.network.max": "64m",
    "taskmanager.memory.jvm-metaspace.size": "256m",
    "taskmanager.memory.jvm-overhead.min": "192m",
    "taskmanager.memory.jvm-overhead.max": "192m",
    "classloader.resolve-order": "parent-first",
    "restart-strategy": "fixed-delay",
    "restart-strategy.fixed-delay.attempts": str(RESTARTS),
    "restart-strategy.fixed-delay.delay": "1 s",
    "heartbeat.interval": "2000",
    "heartbeat.timeout": "8000",
}
"""A TaskManager takes 1.2 GB at most. Lost processes are noticed within eight seconds."""


@dataclass
class Flink:
    """A running Flink with Beam's job service before it and worker pools beside it."""

    folder: Path
    job_port: int
    artifact_port: int
    pool_port: int
    parallelism: int
    rest_port: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    job_service: Service | None = None
    jobmanager: Service | None = None
    taskmanagers: list[Service] = field(default_factory=list)
    pools: list[Service] = field(default_factory=list)

    def options(self) -> list[str]:
        """Options for ``cidermill curate``."""
        return [
            "--runner=flink",
            f"--job_endpoint=localhost:{self.job_port}",
            f"--artifact_endpoint=localhost:{self.artifact_port}",
            "--environment_type=EXTERNAL",
            f"--environment_config=localhost:{self.pool_port}",
            f"--parallelism={self.parallelism}",
        ]

    def start_jobmanager(self) -> Service:
        """Start the JobManager; it knows nothing of jobs of an earlier one."""
        classes = f"{fetch.flink_home()}/lib/*"
        service = Service(
            f"jobmanager-{time.monotonic_ns()}",
            [*java("512m", "-cp", classes), JOBMANAGER, "--configDir", str(self.folder)],
            self.folder,
        )
        service.wait_for(self.rest_port)
        self.jobmanager = service
        return service

    def start_taskmanager(self) -> Service:
        """One more TaskManager; it joins within seconds."""
        classes = f"{fetch.flink_home()}/lib/*"
        service = Service(
            f"taskmanager-{time.monotonic_ns()}",
            [*java("528m", "-cp", classes), TASKMANAGER, "--configDir", str(self.folder)],
            self.folder,
        )
        self.taskmanagers.append(service)
        return service

    def start_pool(self) -> Service:
        """One more pool of Python workers behind the common address."""
        name = f"pool-{len(self.pools)}"
        service = start_pool(self.pool_port, self.folder, name, self.environment)
        self.pools.append(service)
        return service

    def rest(self, path: str) -> Any:
        """What the JobManager's REST interface answers."""
        address = f"http://127.0.0.1:{self.rest_port}{path}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return json.load(answer)

    def wait_for_slots(self, count: int, seconds: float = 60.0) -> None:
        """Wait until so many slots have joined.

        Raises:
          NotStarted: the time is over.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError):
                if self.rest("/overview")["slots-total"] >= count:
                    return
            time.sleep(0.2)
        said = [manager.tail() for manager in self.taskmanagers]
        raise NotStarted(f"{count} slots did not join in {seconds:g} s: {said}")

    def services(self) -> list[Service]:
        """All processes that were started."""
        singles = [s for s in (self.job_service, self.jobmanager) if s is not None]
        return [*singles, *self.taskmanagers, *self.pools]


@contextlib.contextmanager
def embedded(parallelism: int = 2, environment: Mapping[str, str] | None = None) -> Iterator[Flink]:
    """A Flink inside Beam's job service, on its master ``[local]``."""
    with _running("flink-embedded", parallelism, environment) as flink:
        flink.job_service = _start_job_service(flink, "[local]")
        flink.start_pool()
        yield flink


@contextlib.contextmanager
def cluster(taskmanagers: int = 2, environment: Mapping[str, str] | None = None) -> Iterator[Flink]:
    """A JobManager, so many TaskManagers of one slot each, as many worker pools, a job service."""
    with _running("flink-cluster", taskmanagers, environment) as flink:
        flink.rest_port = free_port()
        _write_settings(flink)
        flink.start_jobmanager()
        for _ in range(taskmanagers):
            flink.start_taskmanager()
            flink.start_pool()
        flink.job_service = _start_job_service(flink, f"localhost:{flink.rest_port}")
        flink.wait_for_slots(taskmanagers)
        yield flink


@contextlib.contextmanager
def _running(name: str, parallelism: int, environment: Mapping[str, str] | None) -> Iterator[Flink]:
    with workspace(name) as folder:
        flink = Flink(
            folder, free_port(), free_port(), free_port(), parallelism,
            environment=environment or {},
        )  # fmt: skip
        try:
            yield flink
        finally:
            for service in flink.services():
                service.stop()


def _start_job_service(flink: Flink, master: str) -> Service:
    classes = fetch.job_service_classes().read_text()
    service = Service(
        "job-service",
        [
            *java("1500m", "-cp", classes),
            DRIVER,
            f"--flink-master={master}",
            f"--flink-conf-dir={_settings_folder(flink)}",
            "--job-host=localhost",
            f"--job-port={flink.job_port}",
            f"--artifact-port={flink.artifact_port}",
            "--expansion-port=0",
            f"--artifacts-dir={flink.folder}/artifacts",
        ],
        flink.folder,
    )
    service.wait_for(flink.job_port)
    return service


def _settings_folder(flink: Flink) -> Path:
    if not (flink.folder / "flink-conf.yaml").exists():
        _write_settings(flink)
    return flink.folder


def _write_settings(flink: Flink) -> None:
    rpc_port = free_port()
    settings = {
        **SETTINGS,
        "jobmanager.rpc.port": str(rpc_port),
        "rest.port": str(flink.rest_port or free_port()),
        "io.tmp.dirs": str(flink.folder),
    }
    rows = "".join(f"{name}: {value}\n" for name, value in settings.items())
    (flink.folder / "flink-conf.yaml").write_text(rows)
    os.makedirs(flink.folder / "artifacts", exist_ok=True)
