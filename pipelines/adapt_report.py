"""What adapting a model came to: a JSON file beside the adapter's folder, and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipelines import files
from trainer.completions import Known

FORMAT = "cidermill-adapt"
VERSION = 1


@dataclass(frozen=True)
class Report:
    """All of it.

    Args:
      facts: settings, digests, counts.
      losses: of each step, in nats a token of completions.
      judged: on the examples set aside, by what it was: the base, the start, the adapter.
      measured: what differs from run to run.
    """

    facts: Mapping[str, Any]
    losses: Sequence[float]
    judged: Mapping[str, Known]
    measured: Mapping[str, Any]

    def write(self, path: str) -> None:
        """Write it as JSON, whole or not at all."""
        judged = [{"name": name, **asdict(own)} for name, own in self.judged.items()]
        content = {"format": FORMAT, "version": VERSION, **asdict(self), "judged": judged}
        files.write_json(path, content)

    def lines(self) -> list[str]:
        """As a table for people."""
        return [
            *_judged_lines(self.judged),
            f"loss     {self.losses[0]:.4f} nats a token of completions at the first step, "
            f"{_last(self.losses):.4f} at the last (a mean over a tenth)",
        ]


def _judged_lines(judged: Mapping[str, Known]) -> list[str]:
    """A line for each that was judged, on the same completions."""
    if not judged:
        return []
    any_one = next(iter(judged.values()))
    title = f"{any_one.examples} held out, {any_one.bytes} bytes"
    return [
        f"{title:<32}{'nats/token':>12}{'bits/byte':>12}{'exact':>12}",
        *(
            f"{name:<32}{own.loss:>12.4f}{own.bits_per_byte:>12.4f}{own.exact:>12.1%}"
            for name, own in judged.items()
        ),
    ]


def _last(losses: Sequence[float]) -> float:
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / len(tail)
