"""``python -m engines fetch|up``: fetch the engines, or run one until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

from engines import fetch, flink
from engines.fetch import CannotFetch
from engines.processes import NotStarted
from engines.store import store


def main() -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m engines", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    fetching = commands.add_parser("fetch", help="fetch and build what the engines need")
    fetching.add_argument("what", nargs="*", metavar="|".join(fetch.EVERYTHING))
    up = commands.add_parser("up", help="run an engine until Ctrl-C, and print how to use it")
    up.add_argument("engine", choices=["flink-embedded", "flink-cluster", "store"])
    up.add_argument("--taskmanagers", type=int, default=2, help="of a cluster (default: 2)")
    arguments = parser.parse_args()
    try:
        if arguments.command == "fetch":
            unknown = sorted(set(arguments.what) - set(fetch.EVERYTHING))
            if unknown:
                parser.error(f"unknown engine {unknown[0]}")
            for name in arguments.what or fetch.EVERYTHING:
                fetch.EVERYTHING[name]()
            return 0
        return _up(arguments)
    except (CannotFetch, NotStarted, FileNotFoundError) as error:
        print(f"engines: {error}", file=sys.stderr)
        return 1


def _up(arguments: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with _engine(arguments) as engine:
        print("cidermill curate ... " + " ".join(engine.options()), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(1)
    return 0


@contextlib.contextmanager
def _engine(arguments: argparse.Namespace) -> Iterator[Any]:
    if arguments.engine == "store":
        with store() as running:
            yield running
    elif arguments.engine == "flink-embedded":
        with flink.embedded() as running:
            yield running
    else:
        with flink.cluster(arguments.taskmanagers) as running:
            yield running


if __name__ == "__main__":
    sys.exit(main())
