"""What Flink's processes are told: configuration, logging, and the names a JVM resolves."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

from engines.ports import LOOPBACK

RESTARTS = 30

SETTINGS = {
    "jobmanager.rpc.address": "localhost",
    # Without these two Flink listens on all interfaces.
    "jobmanager.bind-host": LOOPBACK,
    "taskmanager.bind-host": LOOPBACK,
    "jobmanager.memory.heap.size": "512m",
    "jobmanager.memory.off-heap.size": "128m",
    "jobmanager.memory.jvm-metaspace.size": "160m",
    "jobmanager.memory.jvm-overhead.min": "128m",
    "jobmanager.memory.jvm-overhead.max": "128m",
    "rest.address": "localhost",
    "rest.bind-address": LOOPBACK,
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
"""A TaskManager may take 1.4 GB and takes half of it. Lost processes are noticed in 8 seconds."""

LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = console
appender.console.name = console
appender.console.type = CONSOLE
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1} %m%n
"""
"""Flink without a log configuration tells of errors only, and not of restarts."""


def write_settings(folder: Path, rest_port: int, rpc_port: int) -> None:
    """Write ``flink-conf.yaml`` and ``log4j2.properties`` for a cluster that lives in a folder."""
    own = {
        "jobmanager.rpc.port": str(rpc_port),
        "rest.port": str(rest_port),
        "io.tmp.dirs": str(folder),
    }
    (folder / "flink-conf.yaml").write_text(rendered({**SETTINGS, **own}))
    (folder / "log4j2.properties").write_text(LOGGING)


def rendered(settings: Mapping[str, str]) -> str:
    """Settings as ``flink-conf.yaml`` has them: one a line, and no YAML beyond that.

    Raises:
      ValueError: a name or value that such a line cannot hold.
    """
    for name, value in settings.items():
        if not name or ":" in name or "\n" in name + value or " #" in value:
            raise ValueError(f"{name}: {value!r} does not fit on a line of flink-conf.yaml")
    return "".join(f"{name}: {value}\n" for name, value in settings.items())


def hosts(workers: str, address: str) -> str:
    """A hosts file in which one name is an address of its own, for ``jdk.net.hosts.file``.

    A JVM with such a file resolves nothing else, so its own machine's names are in it.
    """
    return f"{LOOPBACK} localhost\n{LOOPBACK} {socket.gethostname()}\n{address} {workers}\n"
