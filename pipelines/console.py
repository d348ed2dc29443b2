"""What a person sees of a run: a progress bar on a terminal, plain lines in a log, the funnel."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from tqdm import tqdm

from pipelines import conclude
from pipelines.inputs import Input
from pipelines.metrics import BEGUN, FINISHED, PASSED, counters_of
from pipelines.run import Run

LOG_SECONDS = 10.0
"""Between two lines of progress where there is no terminal to draw a bar on."""

PHASES = {
    "split": "looking for parts of large files",
    "screen": "reading and measuring",
    "resolve": "comparing documents",
    "finish": "writing",
}


class Console:
    """Shows the events of a run. ``counters`` and ``shuffled`` sum up
    Beam's counters over the local workers.

    Use as a context manager around the run, so that the bar is closed whatever happens.
    """

    def __init__(self, run: Run, inputs: Sequence[Input], file: TextIO | None = None) -> None:
        self._run = run
        self._sizes = {item.key: item.size for item in inputs}
        self._file = file or sys.stderr
        self._bar: tqdm[Any] | None = None
        self._phase = ""
        self._took: list[str] = []
        self._done: dict[str, float] = {}
        self._records = 0
        self._counts: Counter[str] = Counter()
        self._began = self._said = time.monotonic()
        self.counters: Counter[str] = Counter()
        self.shuffled: Counter[str] = Counter()

    def start(self, engine: str) -> None:
        """Say what runs where."""
        total = sum(self._sizes.values())
        self._line(
            f"recipe {self._run.recipe.name}, {len(self._sizes)} inputs, {_bytes(total)}; {engine}"
        )

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self._time_phase()
        if self._took:
            self._line("took " + ", ".join(self._took))

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take in one event of the local runner."""
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is not None:
            handler(event)

    def _on_phase(self, event: Mapping[str, Any]) -> None:
        self._close()
        self._time_phase()
        self._phase = event["phase"]
        self._done, self._records, self._counts = {}, 0, Counter()
        self._began = time.monotonic()
        if self._phase in ("split", "resolve"):
            self._line(PHASES[self._phase])
            return
        self._sizes = dict(event["inputs"])
        if self._file.isatty():
            self._bar = tqdm(
                total=sum(self._sizes.values()),
                desc=PHASES[self._phase],
                unit="B",
                unit_scale=True,
                file=self._file,
                bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
            )

    def _on_batch(self, event: Mapping[str, Any]) -> None:
        self._records += event["records"]
        self._counts.update({"read": event["records"], "kept": event["kept"]})
        self._reached(event["input"], event.get("offset", 0))

    def _on_sealed(self, event: Mapping[str, Any]) -> None:
        self._reached(event["input"], self._sizes.get(event["input"], 0))

    def _on_finished(self, event: Mapping[str, Any]) -> None:
        self._counts.update(event["counts"])
        self._records = self._counts["read"]
        self._reached(event["input"], self._sizes.get(event["input"], 0))

    def _on_counters(self, event: Mapping[str, Any]) -> None:
        self.counters.update(event["counters"])
        self.shuffled.update(event["shuffled"])

    def show(self, counters: Mapping[str, int]) -> None:
        """Show an engine's counters of progress."""
        if time.monotonic() - self._said < LOG_SECONDS:
            return
        if FINISHED in counters:
            begun, finished = counters.get(BEGUN, 0), counters[FINISHED]
            self._line(f"{begun} inputs and parts begun, {finished} finished")
            return
        spent = time.monotonic() - self._began
        read = counters.get("records read", 0)
        stages = {k.removeprefix("milliseconds in "): v for k, v in counters.items()
                  if k.startswith("milliseconds in ")}  # fmt: skip
        self._line(
            f"{read} records measured, {read / max(spent, 1e-9):.0f}/s, "
            f"{counters.get(PASSED, 0)} passed the rules on one document; {_shares(stages)}"
        )

    def say(self, text: str) -> None:
        """Show a line that is not of an event."""
        self._line(text)

    def _on_lost(self, event: Mapping[str, Any]) -> None:
        self._line(f"a worker {event['how']} while working on {', '.join(event['inputs'][:3])}")

    def _on_failed(self, event: Mapping[str, Any]) -> None:
        self._line(f"a task failed: {event['error']}: {event['message']}")

    def _reached(self, key: str, offset: float) -> None:
        self._done[key] = max(self._done.get(key, 0.0), float(offset))
        if self._bar is not None:
            self._bar.set_postfix_str(self._rate(), refresh=False)
            self._bar.update(sum(self._done.values()) - self._bar.n)
        elif time.monotonic() - self._said >= LOG_SECONDS:
            share = sum(self._done.values()) / max(1, sum(self._sizes.values()))
            spent = time.monotonic() - self._began
            left = f", {spent / share - spent:.0f} s left" if share > 0 else ""
            self._line(f"{PHASES[self._phase]}: {share:.0%}, {self._rate()}{left}")

    def _rate(self) -> str:
        spent = max(1e-9, time.monotonic() - self._began)
        text = f"{self._records} records, {self._records / spent:.0f}/s"
        if self._counts["read"]:
            text += f", {self._counts['kept'] / self._counts['read']:.0%} kept"
        return text

    def _line(self, text: str) -> None:
        self._said = time.monotonic()
        if self._bar is not None:
            self._bar.write(text, file=self._file)
        else:
            print(text, file=self._file, flush=True)

    def _time_phase(self) -> None:
        """Remember how long the phase that ends has taken."""
        if self._phase:
            self._took.append(f"{self._phase} {time.monotonic() - self._began:.1f} s")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def print_funnel(
    manifest: Mapping[str, Any],
    output: str,
    seconds: Mapping[str, Mapping[str, float]],
    file: TextIO | None = None,
) -> None:
    """The funnel of a run: stage by stage, what went in, what was dropped, and where it lies."""
    total = manifest["total"]
    counts = total["counts"]
    print(f"{'stage':<18}{'in':>9}{'dropped':>9}{'dead':>7}{'out':>9}  removed by", file=file)
    for stage in manifest["stages"]:
        row = total["stages"].get(stage["name"], {})
        rules = _top_rules(manifest, stage["name"])
        print(
            f"{stage['name']:<18}{row.get('in', 0):>9}{row.get('dropped', 0):>9}"
            f"{row.get('dead', 0):>7}{row.get('out', 0):>9}  {rules}".rstrip(),
            file=file,
        )
    read = counts.get("read", 0)
    kept = counts.get("kept", 0)
    share = f" ({kept / read:.1%})" if read else ""
    print(
        f"read {read} = kept {kept}{share} + rejected {counts.get('rejected', 0)} "
        f"+ dead {counts.get('dead', 0)}",
        file=file,
    )
    by_stage: Counter[str] = Counter()
    for stages in seconds.values():
        by_stage.update(stages)
    if by_stage:
        spent = sum(by_stage.values())
        print(f"time     {spent:.1f} s in {len(seconds)} workers: {_shares(by_stage)}", file=file)
    print(f"corpus   {output}/documents", file=file)
    print(f"report   {conclude.report_file(output)}", file=file)
    print(f"why      cidermill why URL-or-id --output {output}", file=file)


def _shares(spent: Mapping[str, float]) -> str:
    """The five stages that took most time, each with its share."""
    total = sum(spent.values()) or 1
    top = sorted(spent.items(), key=lambda part: (-part[1], part[0]))[:5]
    return ", ".join(f"{name} {value / total:.0%}" for name, value in top)


def print_counters(
    manifest: Mapping[str, Any], counters: Mapping[str, int], file: TextIO | None = None
) -> None:
    """Say whether the engine's counters agree with the manifest."""
    expected = counters_of(manifest["total"])
    differ = sorted(
        name for name in {*expected, *counters} if expected.get(name, 0) != counters.get(name, 0)
    )
    if not counters:
        text = "this engine gave none at the end"
    elif differ:
        name = differ[0]
        text = (
            f"{len(differ)} of {len(expected)} differ from the manifest, which holds: {name} is "
            f"{counters.get(name, 0)}, not {expected.get(name, 0)} (an engine may count a task "
            "twice that it ran twice)"
        )
    else:
        text = f"all {len(expected)} agree with the manifest"
    print(f"counters {text}", file=file)


def _top_rules(manifest: Mapping[str, Any], stage: str) -> str:
    counts = manifest["total"]["rules"]
    removed = [
        (counts[rule["name"]]["removed"], rule["name"])
        for rule in manifest["rules"]
        if rule["stage"] == stage and counts.get(rule["name"], {}).get("removed")
    ]
    removed.sort(key=lambda row: (-row[0], row[1]))
    text = ", ".join(f"{name} {count}" for count, name in removed[:3])
    return text + (f", {len(removed) - 3} more rules" if len(removed) > 3 else "")
