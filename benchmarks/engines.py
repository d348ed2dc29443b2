"""One corpus on every engine: equal digests, time, peak memory, bytes shuffled.

    python benchmarks/engines.py --input 'crawl/*.warc.gz'
    python benchmarks/engines.py --input 'crawl/*.warc.gz' --engines "local 1" "local 2"

Needs what ``make engines`` fetches; an engine that is absent is left out and named. Memory is the
largest sum of the resident sizes of all processes of a run, engine included, looked at twice a
second; pages that processes share count once for each. The whole time includes the start of
Python and of the job, not that of the engine. The local runner says how long each phase took.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from engines import fetch, flink  # noqa: E402
from engines.processes import descendants  # noqa: E402

PAGE = 4096
Setting = Callable[[], contextlib.AbstractContextManager[tuple[list[str], list[int]]]]


def local(workers: int) -> Setting:
    """The local runner."""

    @contextlib.contextmanager
    def up() -> Iterator[tuple[list[str], list[int]]]:
        yield ["--workers", str(workers)], []

    return up


@contextlib.contextmanager
def in_process() -> Iterator[tuple[list[str], list[int]]]:
    """The whole graph in one process, on Beam's own runner."""
    yield ["--runner", "FnApiRunner"], []


@contextlib.contextmanager
def prism() -> Iterator[tuple[list[str], list[int]]]:
    """Prism and a pool, which the run itself starts."""
    yield ["--runner", "prism", "--prism_location", str(fetch.prism_program())], []


@contextlib.contextmanager
def embedded() -> Iterator[tuple[list[str], list[int]]]:
    """Flink inside the job service, two tasks at a time."""
    with flink.embedded() as engine:
        yield engine.options(), [service.pid for service in engine.services()]


@contextlib.contextmanager
def cluster() -> Iterator[tuple[list[str], list[int]]]:
    """A JobManager, two TaskManagers, two pools, the job service."""
    with flink.cluster(2) as engine:
        yield engine.options(), [service.pid for service in engine.services()]


SETTINGS: dict[str, tuple[Setting, Path | None]] = {
    "local 1": (local(1), None),
    "local 2": (local(2), None),
    "FnApiRunner": (in_process, None),
    "prism": (prism, fetch.prism_program()),
    "flink embedded": (embedded, fetch.job_service_classes()),
    "flink cluster 2": (cluster, fetch.flink_home() / "version"),
}


class Memory:
    """The largest sum of resident sizes of some processes and all below them, in bytes."""

    def __init__(self, roots: list[int]) -> None:
        self.peak = 0
        self._roots = roots
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            everyone = {pid for root in self._roots for pid in [root, *descendants(root)]}
            self.peak = max(self.peak, sum(map(resident, everyone)))

    def stop(self) -> int:
        self._ended.set()
        self._thread.join()
        return self.peak


def resident(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    return 0


def digest(output: Path) -> str:
    """One digest over all files of a run, without its work directory and its times."""
    total = hashlib.sha256()
    for path in sorted(output.rglob("*")):
        inside = path.relative_to(output)
        if path.is_file() and inside.parts[0] != "work" and path.name != "timing.json":
            total.update(f"{inside}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()[:12]


def measure(setting: Setting, inputs: list[str], recipe: str, folder: Path) -> dict[str, object]:
    """One run."""
    output = folder / "out"
    words = [sys.executable, "-m", "pipelines", "curate", "--output", str(output)]
    words += ["--recipe", recipe, *(part for name in inputs for part in ("--input", name))]
    with setting() as (options, roots):
        started = time.perf_counter()
        process = subprocess.Popen(
            [*words, *options],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        memory = Memory([process.pid, *roots])
        _, said = process.communicate()
        seconds = time.perf_counter() - started
        peak = memory.stop()
    if process.returncode:
        raise SystemExit(f"benchmark: the run failed: {said[-500:]}")
    timing = json.loads((output / "timing.json").read_text())
    waves = [line for line in said.splitlines() if line.startswith("took ")]
    return {
        "seconds": seconds,
        "peak": peak,
        "shuffled": sum(timing["shuffled"].values()),
        "workers": sum(sum(stages.values()) for stages in timing["seconds"].values()),
        "digest": digest(output),
        "records": json.loads((output / "manifest.json").read_text())["total"]["counts"]["read"],
        "waves": waves[-1].removeprefix("took ") if waves else "",
    }


def main() -> int:
    """Measure and print the table; 1 where digests differ."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--input", action="append", required=True)
    parser.add_argument("--recipe", default="web")
    parser.add_argument("--engines", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    known = parser.parse_args()
    print(f"{'engine':<16}{'s':>8}{'worker s':>10}{'peak MB':>9}{'shuffled':>10}  digest")
    digests = set()
    for name in known.engines:
        setting, needs = SETTINGS[name]
        if needs is not None and not needs.exists():
            print(f"{name:<16} absent: run `make engines`")
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = measure(setting, known.input, known.recipe, Path(folder))
        digests.add(found["digest"])
        print(
            f"{name:<16}{found['seconds']:>8.1f}{found['workers']:>10.1f}"
            f"{found['peak'] / 1e6:>9.0f}{found['shuffled']:>10}  {found['digest']}"
            f"  {found['records']} records {found['waves']}",
            flush=True,
        )
    return 0 if len(digests) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
