"""Ports of the loopback interface for processes that are about to start."""

from __future__ import annotations

import errno
import secrets
import socket

# Below what Linux deals out to outgoing connections (from 32768 on): a JVM needs seconds to bind
# its port, and no connection may get it meanwhile.
FIRST, END = 20000, 32768
TRIES = 1000
LOOPBACK = "127.0.0.1"

_reservations: list[socket.socket] = []


def free_port() -> int:
    """A port that nobody listens on, and that no other caller gets while this process lives.

    Raises:
      OSError: none was found.
    """
    for _ in range(TRIES):
        port = FIRST + secrets.randbelow(END - FIRST)
        if _unused(port) and _reserve(port):
            return port
    raise OSError(errno.EADDRINUSE, f"no free port among {TRIES} tried from {FIRST} to {END - 1}")


def answers(port: int, address: str = LOOPBACK) -> bool:
    """Whether somebody listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0


def _unused(port: int) -> bool:
    with socket.socket() as probe:
        # As servers bind: connections that are closing down do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _reserve(port: int) -> bool:
    """Take the port's name, which the kernel frees when this process ends."""
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0cidermill-port-{port}")
    except OSError:
        name.close()
        return False
    _reservations.append(name)
    return True
