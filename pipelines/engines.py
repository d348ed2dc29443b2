"""Engines: the whole graph as one job on a Beam runner, watched until its end.

``prism`` and a Flink on this machine get worker processes of their own here (Beam's worker pool),
so that a page that takes down a worker does not take down this process. Clusters bring theirs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineState

from pipelines import attempts, files, metrics
from pipelines.inputs_error import InputError, RunFailed

ALIASES = {"prism": "PortableRunner", "flink": "FlinkRunner", "dataflow": "DataflowRunner"}
MAX_SUBMISSIONS = 4
"""A job that failed while workers died is submitted again: that is how it gets past a page that
takes them down on an engine which does not try again itself."""

POLL_SECONDS = 2.0
START_SECONDS = 60.0
LISTING_SHARE = 20
"""Of the time between two looks into the work directory, one part in so many may be the look."""

Show = Callable[[dict[str, int]], None]
Build = Callable[[beam.Pipeline], Any]


class EngineFailed(RunFailed):
    """A Beam runner could not be reached, or ended the job with an error."""


class Counted(NamedTuple):
    """An engine's counters at the end of a job: how documents ended, and what was shuffled."""

    documents: dict[str, int]
    shuffled: dict[str, int]


@dataclass(frozen=True)
class Engine:
    """A runner and the options to submit with. ``told`` describes it in one line.

    ``isolated``: its Python workers are processes of their own.
    """

    name: str
    runner: str
    options: tuple[str, ...]
    workers: int | None
    own_pool: bool = False
    isolated: bool = False
    prism: str = ""

    @property
    def told(self) -> str:
        """The engine and its workers, in words."""
        count = f"{self.workers} workers" if self.workers else "workers as the engine has them"
        return f"{self.name} ({count})"


def choose(arguments: argparse.Namespace) -> Engine:
    """The engine that the command line names.

    Raises:
      InputError: a runner that does not exist, or that lacks something to start with.
    """
    name = arguments.runner
    given = list(arguments.beam_options)
    known = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--job_endpoint", "--environment_type", "--flink_master", "--parallelism",
                   "--prism_location", "--flink_job_server_jar"):  # fmt: skip
        known.add_argument(option)
    named, _ = known.parse_known_args(given)
    runner = ALIASES.get(name, name)
    prism = ""
    workers = arguments.workers
    if name == "prism" and not named.job_endpoint:
        prism = _find_prism(named.prism_location)
    if name == "flink":
        if named.job_endpoint:
            runner = "PortableRunner"
        elif not named.flink_job_server_jar:
            raise InputError(
                "--runner flink needs --job_endpoint HOST:PORT of a running Beam job service, or "
                "--flink_job_server_jar FILE to start one (beam-runners-flink-*-job-server)"
            )
        if workers and not named.parallelism:
            given += ["--parallelism", str(workers)]
        workers = int(named.parallelism) if named.parallelism else workers
    if name == "dataflow" and workers:
        given += ["--num_workers", str(workers)]
    here = name == "prism" or (name == "flink" and _is_here(named))
    own_pool = here and not named.environment_type
    apart = (named.environment_type or "LOOPBACK").upper() != "LOOPBACK"
    isolated = own_pool or apart or runner == "DataflowRunner"
    engine = Engine(name, runner, tuple(given), workers, own_pool, isolated, prism)
    _check_runner(engine)
    return engine


def _is_here(named: argparse.Namespace) -> bool:
    """Whether a Flink runs inside a job service on this machine."""
    return (named.flink_master or "[local]") in ("[local]", "local") and (
        not named.job_endpoint or named.job_endpoint.startswith(("localhost:", "127.0.0.1:"))
    )


def _check_runner(engine: Engine) -> None:
    from apache_beam.runners.runner import create_runner

    try:
        create_runner(engine.runner)
    except (ValueError, ImportError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0]
        hint = "; install apache-beam[gcp]" if engine.name.lower().startswith("dataflow") else ""
        raise InputError(f"--runner {engine.name} cannot be used: {reason}{hint}") from None


def _find_prism(location: str | None) -> str:
    found = location or shutil.which("prism") or ""
    if not found or not os.access(found, os.X_OK):
        raise InputError(
            f"no prism program {'at ' + location if location else 'on the PATH'}; name it with "
            "--prism_location, or build it: go install "
            f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{beam.__version__}"
        )
    return found


def run_on_engine(
    engine: Engine, work: str, build: Build, show: Show, say: Callable[[str], None]
) -> Counted:
    """Submit the graph that ``build`` puts on a pipeline and wait for its end.

    Gives the engine's counters. ``work`` is the work directory of the run; ``show`` gets the
    counters of progress while the job runs.

    Raises:
      EngineFailed: the engine cannot be reached, or the job failed for good.
    """
    with contextlib.ExitStack() as stack:
        options = list(engine.options)
        if engine.prism:
            options += [f"--job_endpoint={stack.enter_context(_prism(engine.prism))}"]
        if engine.own_pool:
            address = stack.enter_context(worker_pool())
            options += ["--environment_type=EXTERNAL", f"--environment_config={address}"]
        for submission in range(1, MAX_SUBMISSIONS + 1):
            before = _dead_attempts(work)
            try:
                return _submit(engine, options, work, build, show)
            except EngineFailed as error:
                if submission == MAX_SUBMISSIONS or _dead_attempts(work) <= before:
                    raise
                say(f"{error}; a worker had died: submitting the job again")
    raise AssertionError


def _dead_attempts(work: str) -> frozenset[str]:
    """The notes of attempts in the work directory; after a job, those of workers that died."""
    return frozenset(path for path, _, _ in files.listing(files.join(work, attempts.FOLDER, "*")))


def _submit(engine: Engine, flags: list[str], work: str, build: Build, show: Show) -> Counted:
    options = PipelineOptions([f"--runner={engine.runner}", *flags])
    try:
        pipeline = beam.Pipeline(options=options)
        build(pipeline)
        result = pipeline.run()
        watch = _Watch(result, work, show)
        try:
            state = result.wait_until_finish()
        except BaseException:
            _cancel(result)
            raise
        finally:
            watch.stop()
    except Exception as error:
        # What a runner raises is often a whole remote traceback as its message.
        raise EngineFailed(f"{engine.name} failed: {_last_line(error)}") from error
    if state not in (None, PipelineState.DONE):
        raise EngineFailed(f"{engine.name}: the job ended as {state}")
    return Counted(
        dict(metrics.counted(result, metrics.DOCUMENTS)),
        dict(metrics.counted(result, metrics.SHUFFLES)),
    )


def _stored_progress(work: str) -> Counter[str]:
    """How many inputs and parts of inputs have been begun and finished, by their files."""
    with contextlib.suppress(OSError):
        return Counter(
            {
                metrics.BEGUN: len(files.listing(files.join(work, "inputs", "*.json"))),
                metrics.FINISHED: len(files.listing(files.join(work, "finished", "*.json"))),
            }
        )
    return Counter()


def _cancel(result: Any) -> None:
    """Stop a job whose submitter was interrupted; without this it would go on by itself."""
    with contextlib.suppress(Exception):
        if not PipelineState.is_terminal(result.state):
            result.cancel()


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1][:500] if lines else ''}"


@dataclass
class _Watch:
    """Asks a running job for its counters, in a thread of its own."""

    result: Any
    work: str
    show: Show
    _ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._poll, name="counters", daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        pause = POLL_SECONDS
        while not self._ended.wait(pause):
            found = metrics.counted(self.result, metrics.PROGRESS)
            if not found:
                # Flink's job service gives none before the end; what is stored tells as well.
                started = time.monotonic()
                found = _stored_progress(self.work)
                pause = max(POLL_SECONDS, LISTING_SHARE * (time.monotonic() - started))
            if not self._ended.is_set():
                self.show(dict(found))

    def stop(self) -> None:
        """Ask no more."""
        self._ended.set()
        self._thread.join(timeout=POLL_SECONDS)


# --- processes on this machine ------------------------------------------------------------------


@contextlib.contextmanager
def worker_pool() -> Iterator[str]:
    """A pool of Python worker processes on a free port of this machine; its address."""
    port = _free_port()
    command = [sys.executable, "-m", "pipelines.worker_pool", "127.0.0.1", str(port)]
    with _process(command, port, "the pool of workers", {"PYTHONHASHSEED": "0"}):
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def _prism(program: str) -> Iterator[str]:
    port = _free_port()
    command = [program, "-job_port", str(port), "-serve_http=false", "-log_level=error"]
    with _process(command, port, "prism", {}):
        yield f"localhost:{port}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _process(command: list[str], port: int, what: str, extra: dict[str, str]) -> Iterator[None]:
    """A process group that listens on a port while the block runs."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **extra},
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            _wait_for(port, process, what, log)
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], what: str, log: Any) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    raise EngineFailed(f"{what} did not start: {lines[-1][:300] if lines else 'it said nothing'}")
