"""Beam's counters: what an engine shows while the job runs, and what must equal the manifest.

``progress`` counts what workers did, again after a failure. ``documents`` counts how documents
ended, from the accounts that the manifest adds up, once an input: read, kept, rejected, dead; for
each stage ``STAGE.in``, ``.dropped``, ``.dead``, ``.out``; for each rule ``removed by RULE``.
``bytes shuffled`` counts what is sent to the shuffles of the global stages, by the step that does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from apache_beam.metrics.metric import Metrics

from filters.batch import Batch

PROGRESS = "progress"
DOCUMENTS = "documents"
SHUFFLES = "bytes shuffled"
KEY_BYTES = 10
"""A key is the ten digits of an input, or a number that takes no more."""
PASSED = "documents that passed the rules on one document"
BEGUN = "inputs begun"
FINISHED = "inputs finished"
_ENDS = ("read", "kept", "rejected", "dead")


def batch(measured: Batch, kept: int) -> None:
    """Count a batch that was measured and stored."""
    Metrics.counter(PROGRESS, "batches").inc()
    Metrics.counter(PROGRESS, "records read").inc(measured.end - measured.first)
    Metrics.counter(PROGRESS, PASSED).inc(kept)
    for stage, seconds in measured.seconds.items():
        Metrics.counter(PROGRESS, f"milliseconds in {stage}").inc(round(seconds * 1000))


def account(account: Mapping[str, Any]) -> None:
    """Count the account of an input that is finished."""
    for name, value in counters_of(account).items():
        Metrics.counter(DOCUMENTS, name).inc(value)


def metered(
    function: Callable[..., Iterator[tuple[Any, bytes]]], shuffle: str
) -> Callable[..., Iterator[tuple[Any, bytes]]]:
    """The function, with the bytes that it sends to a shuffle counted in ``SHUFFLES``."""
    return _Metered(function, shuffle)


class _Metered:
    """A class and not a closure, for Beam pickles what a graph holds."""

    def __init__(self, function: Callable[..., Iterator[tuple[Any, bytes]]], shuffle: str) -> None:
        self._function = function
        self._shuffle = shuffle

    def __call__(self, *given: Any, **named: Any) -> Iterator[tuple[Any, bytes]]:
        counter = Metrics.counter(SHUFFLES, self._shuffle)
        for key, blob in self._function(*given, **named):
            counter.inc(KEY_BYTES + len(blob))
            yield key, blob


def counters_of(account: Mapping[str, Any]) -> dict[str, int]:
    """What the counters of ``DOCUMENTS`` must show for an account, of an input or of a run."""
    found = {end: account["counts"].get(end, 0) for end in _ENDS}
    for stage, row in account["stages"].items():
        found.update({f"{stage}.{name}": count for name, count in row.items()})
    for rule, row in account["rules"].items():
        found[f"removed by {rule}"] = row.get("removed", 0)
    return {name: count for name, count in found.items() if count}


def counted(result: Any, namespace: str) -> Counter[str]:
    """The counters of a pipeline's result, where its runner gives any: committed, or attempted."""
    # The portable runner keeps its first answer, and would give it again at the end of the job.
    if getattr(result, "_metrics", None) is not None:
        result._metrics = None
    try:
        # Not with a filter: Beam's own fails on metrics without a step, which some runners give.
        found = result.metrics().query()
    except Exception:
        # Runners without metrics raise errors of their own, and may lose them after the job.
        return Counter()
    total: Counter[str] = Counter()
    for row in found["counters"]:
        if row.key.metric.namespace != namespace:
            continue
        value = row.committed if row.committed is not None else row.attempted
        total[row.key.metric.name] += value or 0
    return total
