"""``python -m engines fetch|up``: fetch the engines, or run one until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from contextlib import AbstractContextManager

from engines import fetch, flink
from engines.fetch import CannotFetch
from engines.prism import Prism, prism
from engines.processes import NotStarted, Service
from engines.store import Store, store

INTERRUPTED = 130
Engine = flink.Flink | Prism | Store


def main() -> int:
    """Run one command; returns the exit code."""
    arguments = _parser().parse_args()
    # All ways to be asked to stop take the way of Ctrl-C, on which everything is stopped. Ctrl-C
    # itself is named because a shell has its background processes ignore it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        if arguments.command == "fetch":
            _fetch(arguments.what)
        else:
            _up(arguments.engine, arguments.taskmanagers)
    except (CannotFetch, NotStarted, OSError) as error:
        print(f"engines: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engines", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    fetching = commands.add_parser("fetch", help="fetch and build what the engines need")
    fetching.add_argument("what", nargs="?", default="all", choices=["all", *fetch.EVERYTHING])
    up = commands.add_parser("up", help="run an engine until Ctrl-C, and print how to use it")
    up.add_argument("engine", choices=["flink-embedded", "flink-cluster", "prism", "store"])
    up.add_argument("--taskmanagers", type=_count, default=2, help="of a cluster (default: 2)")
    return parser


def _count(word: str) -> int:
    count = int(word)
    if not 1 <= count <= flink.MAX_TASKMANAGERS:
        raise argparse.ArgumentTypeError(f"{count} is not from 1 to {flink.MAX_TASKMANAGERS}")
    return count


def _fetch(what: str) -> None:
    for name in fetch.EVERYTHING if what == "all" else [what]:
        fetch.EVERYTHING[name]()
        print(f"{name} is in {fetch.cache()}", flush=True)


def _up(engine: str, taskmanagers: int) -> None:
    print(f"starting {engine}", flush=True)
    with _engine(engine, taskmanagers) as running:
        services = running.services()
        for service in services:
            print(f"{service.name:<16} process {service.pid}, log {service.log}")
        if isinstance(running, flink.Flink) and running.jobmanager is not None:
            print(f"{'web interface':<16} http://localhost:{running.rest_port}")
        # What is printed last may be what somebody waits for before the signal.
        with contextlib.suppress(KeyboardInterrupt):
            print("cidermill curate ... " + " ".join(running.options()), flush=True)
            _watch(services)
    print("stopped", flush=True)


def _engine(name: str, taskmanagers: int) -> AbstractContextManager[Engine]:
    if name == "store":
        return store()
    if name == "prism":
        return prism()
    if name == "flink-embedded":
        return flink.embedded()
    return flink.cluster(taskmanagers)


def _watch(services: list[Service]) -> None:
    """Wait until a process is gone; for the others that is no reason to stop."""
    gone: set[str] = set()
    while len(gone) < len(services):
        for service in services:
            if not service.alive and service.name not in gone:
                gone.add(service.name)
                print(f"{service.name} has ended: {service.tail()}", file=sys.stderr, flush=True)
        time.sleep(1)
    raise NotStarted("all processes have ended")


if __name__ == "__main__":
    sys.exit(main())
