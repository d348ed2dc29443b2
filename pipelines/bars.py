"""Progress for commands without a console of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


def say(text: str) -> None:
    """Write a line beside the bars."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar of progress; without a terminal, a line when it begins."""
    active = sys.stderr.isatty()
    if not active:
        say(f"{what} ...")
    with tqdm(total=total, desc=what, unit_scale=True, disable=not active) as own:

        def seen(count: int) -> None:
            own.update(count)

        yield seen


class Bars:
    """A progress bar a phase of local workers, or a line where there is no terminal. Takes a pool's
    events.

    Use as a context manager, so that the bar is closed whatever happens.
    """

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._sizes: dict[str, int] = {}

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def begin(self, what: str, sizes: Mapping[str, int], unit: str) -> None:
        """A phase over items of these sizes."""
        self._close()
        self._sizes = dict(sizes)
        if not sys.stderr.isatty():
            print(f"{what}: {len(sizes)} tasks", file=sys.stderr, flush=True)
            return
        self._bar = tqdm(total=sum(sizes.values()), desc=what, unit=unit, unit_scale=True)

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take in one event of a pool."""
        if event["event"] == "sealed" and self._bar is not None:
            self._bar.update(self._sizes.pop(event["input"], 0))
        elif event["event"] == "lost":
            self._say(f"a worker {event['how']} while working on {', '.join(event['inputs'][:3])}")
        elif event["event"] == "failed":
            self._say(f"a task failed: {event['error']}: {event['message']}")

    def _say(self, text: str) -> None:
        tqdm.write(text, file=sys.stderr)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
