"""``cidermill curate``: plan a run, perform it on an engine, conclude it; and ``report``."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from pipelines import conclude, files, inputs
from pipelines.benchmark_indexes import resolve_benchmarks
from pipelines.console import Console, print_funnel
from pipelines.inputs import Input
from pipelines.inputs_error import InputError
from pipelines.local import run_locally
from pipelines.recipe import Recipe, Source, load, shipped
from pipelines.report import render_report
from pipelines.resources import resource_digests
from pipelines.run import Run
from pipelines.sources.records import check_options

LOCAL = "local"


class EngineFailed(RuntimeError):
    """A Beam runner could not be reached, or ended the job with an error."""


class Interrupted(RuntimeError):
    """The user or the system asked the run to stop."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``curate`` to the command line."""
    curate = commands.add_parser(
        "curate",
        help="turn raw inputs into an audited corpus",
        description="Read, extract, measure, filter, deduplicate, decontaminate and scrub. "
        "The same command again goes on where an earlier one was stopped, and redoes nothing "
        "that is finished. Options that are not listed here go to Apache Beam.",
    )
    curate.add_argument(
        "--input", "-i", action="append", default=[], metavar="PATH",
        help="file, glob, folder, or @list of paths (plain or gzip); may be repeated. Overrides "
        "the recipe's sources",
    )  # fmt: skip
    curate.add_argument("--output", "-o", default="out", help="folder to write (default: out)")
    curate.add_argument(
        "--recipe", "-r", default="web",
        help=f"a shipped recipe ({', '.join(shipped())}) or a YAML file (default: web)",
    )  # fmt: skip
    curate.add_argument(
        "--kind", default="auto", choices=["auto", *inputs.KINDS],
        help="what --input holds (default: told by the file names)",
    )  # fmt: skip
    curate.add_argument(
        "--prefix", default="", help="put before relative paths in a list, such as s3://bucket/"
    )
    curate.add_argument(
        "--benchmarks", action="append", default=[], metavar="INDEX",
        help="index to decontaminate against (see `cidermill benchmarks`); may be repeated",
    )  # fmt: skip
    curate.add_argument(
        "--workers", "-w", type=int, default=os.cpu_count() or 1,
        help="processes on this machine (default: one a core)",
    )  # fmt: skip
    curate.add_argument(
        "--sample", type=float, default=1.0, help="share of the records to read, such as 0.01"
    )
    curate.add_argument("--seed", type=int, default=0, help="seed of --sample (default: 0)")
    curate.add_argument(
        "--limit", type=int, help="read at most so many records, spread over inputs"
    )
    curate.add_argument("--work-dir", help="folder for unfinished work (default: OUTPUT/work)")
    curate.add_argument(
        "--runner", default=LOCAL,
        help="local (default), or any Beam runner: FnApiRunner, PortableRunner, FlinkRunner, "
        "DataflowRunner, ... with its own options",
    )  # fmt: skip
    curate.set_defaults(perform=perform)


def perform(arguments: argparse.Namespace) -> int:
    """Plan, perform and conclude a run."""
    run, found = plan(arguments)
    if arguments.runner == LOCAL and arguments.beam_options:
        raise InputError(
            f"unknown option {arguments.beam_options[0]}; Beam's options need --runner"
        )
    pipeline = None if arguments.runner == LOCAL else _pipeline(arguments)
    with _only_run(run.work), _only_run(run.output), _signals():
        conclude.begin(run)
        console = Console(run, found)
        if pipeline is None:
            console.start(f"local runner, {arguments.workers} workers, work in {run.work}")
            with console:
                run_locally(run, found, arguments.workers, console.hear)
        else:
            console.start(f"{arguments.runner}, work in {run.work}")
            _run_on_beam(pipeline, run, found, arguments.runner)
        manifest = conclude.conclude(run, found)
        if console.seconds:
            files.write_json(files.join(run.work, "timing.json"), console.seconds)
    print_funnel(manifest, run.output, console.seconds)
    return 0


def plan(arguments: argparse.Namespace) -> tuple[Run, list[Input]]:
    """The run and its inputs, settled before anything is read."""
    if not 0 < arguments.sample <= 1:
        raise InputError(f"--sample is {arguments.sample}; it must be above 0 and at most 1")
    if arguments.limit is not None and arguments.limit < 1:
        raise InputError(f"--limit is {arguments.limit}; it must be at least 1")
    if arguments.workers < 1:
        raise InputError(f"--workers is {arguments.workers}; it must be at least 1")
    recipe = resolve_benchmarks(load(arguments.recipe), arguments.benchmarks)
    if arguments.input:
        own = Source("input", arguments.kind, tuple(arguments.input), arguments.prefix)
        recipe = recipe.with_sources([own])
    if not recipe.sources:
        raise InputError("nothing to read: give --input, or a recipe with sources")
    work = arguments.work_dir or files.join(arguments.output, "work")
    everything = find_inputs(recipe, without=(arguments.output, work))
    found = inputs.with_limit(everything, arguments.limit)
    size = sum(item.size for item in found)
    run = Run(
        recipe=recipe,
        output=arguments.output,
        work=work,
        sample=arguments.sample,
        seed=arguments.seed,
        partitions=min(256, max(1, size >> 28)),
        resources=resource_digests(recipe),
    )
    return run, found


def find_inputs(recipe: Recipe, without: tuple[str, ...] = ()) -> list[Input]:
    """The inputs of all sources of a recipe, leaving out what lies in the folders ``without``.

    Raises:
      InputError: a source's options do not fit its kind, or nothing is left to read.
    """
    found = [
        item
        for source in recipe.sources
        for item in inputs.find(
            source.name, source.input, kind=source.kind, prefix=source.prefix, without=without
        )
    ]
    if not found:
        raise InputError("nothing to read: the inputs hold no file besides the run's own")
    for item in found:
        try:
            check_options(item.kind, recipe.source(item.source).options)
        except ValueError as error:
            raise InputError(f"source {item.source!r}: {error}") from None
    return inputs.with_unique_keys(found)


def _pipeline(arguments: argparse.Namespace) -> Any:
    """An empty pipeline for the runner that was named, with all of Beam's options."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    options = PipelineOptions([f"--runner={arguments.runner}", *arguments.beam_options])
    try:
        return beam.Pipeline(options=options)
    except ValueError as error:
        raise InputError(str(error)) from None


def _run_on_beam(pipeline: Any, run: Run, found: Sequence[Input], runner: str) -> None:
    """Submit the whole graph to a Beam runner and wait for its end."""
    from pipelines.curate import curate

    try:
        _ = curate(pipeline, found, run)
        pipeline.run().wait_until_finish()
    except Exception as error:
        # What a runner raises is often a whole remote traceback as its message.
        raise EngineFailed(f"{runner} failed: {_last_line(error)}") from error


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1][:500] if lines else ''}"


@contextlib.contextmanager
def _only_run(folder: str) -> Iterator[None]:
    """Hold a folder: two runs into one would remove each other's files."""
    if not files.is_local(folder):
        yield
        return
    try:
        os.makedirs(folder, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"another run is writing to {folder}; wait for it or name another --output"
            ) from None
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """A polite request to end is answered like Ctrl-C: workers are ended, nothing is lost."""

    def stop(_number: int, _frame: Any) -> None:
        raise Interrupted("stopped; the same command goes on from here")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def report(arguments: argparse.Namespace) -> int:
    """Print the funnel of a finished run and write its report anew."""
    try:
        manifest = files.read_json(conclude.manifest_file(arguments.output))
    except (FileNotFoundError, ValueError):
        raise InputError(
            f"{arguments.output} holds no finished run: there is no manifest.json in it"
        ) from None
    path = conclude.report_file(arguments.output)
    try:
        page = render_report(manifest)
    except (KeyError, TypeError):
        raise InputError(
            f"the manifest in {arguments.output} is of another version; curate again"
        ) from None
    files.write_bytes(path, page.encode())
    print_funnel(manifest, arguments.output, {}, file=sys.stdout)
    return 0
