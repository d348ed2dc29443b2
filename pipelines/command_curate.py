"""``cidermill curate``: plan a run, perform it on an engine, conclude it; and ``report``."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import sys
import uuid
from collections.abc import Sequence
from functools import partial

from pipelines import conclude, files, inputs
from pipelines.benchmark_indexes import resolve_benchmarks
from pipelines.console import Console, print_counters, print_funnel
from pipelines.curate import curate
from pipelines.engines import Counted, choose, run_on_engine
from pipelines.hold import hold, stoppable
from pipelines.inputs import Input
from pipelines.inputs_error import InputError
from pipelines.local import run_locally
from pipelines.recipe import Recipe, Source, load, shipped
from pipelines.report import render_report
from pipelines.resources import check_resources, resource_digests, stage_resources
from pipelines.run import Run
from pipelines.sources.records import check_options

LOCAL = "local"


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
        "--workers", "-w", type=int,
        help="processes on this machine (default: one a core); with --runner flink or dataflow "
        "the parallelism to ask for",
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
        help="local (default), prism, flink, dataflow, or any Beam runner by its name, with all "
        "of Beam's options: --flink_master, --job_endpoint, --environment_type, --region, ...",
    )  # fmt: skip
    curate.set_defaults(perform=perform)


def perform(arguments: argparse.Namespace) -> int:
    """Plan, perform and conclude a run."""
    engine = None if arguments.runner == LOCAL else choose(arguments)
    set_store_options(arguments.beam_options, "curate", strict=engine is None)
    run, found = plan(arguments)
    store = tuple(sorted(files.store_options().items()))
    run = dataclasses.replace(run, token=uuid.uuid4().hex, store=store)
    with hold(run.work), hold(run.output), stoppable():
        conclude.begin(run)
        console = Console(run, found)
        if engine is None:
            workers = arguments.workers or os.cpu_count() or 1
            console.start(f"local ({workers} workers), work in {run.work}")
            with console:
                run_locally(run, found, workers, console.hear)
            counted = Counted(dict(console.counters), dict(console.shuffled))
        else:
            staged = stage_resources(dict(run.resources), run.work)
            run = dataclasses.replace(run, staged=staged, isolated=engine.isolated)
            build = partial(curate, inputs=found, run=run)
            console.start(f"{engine.told}, work in {run.work}")
            with console:
                counted = run_on_engine(engine, run.work, build, console.show, console.say)
        manifest = conclude.conclude(run, found, counted.shuffled)
    seconds = files.read_json(conclude.timing_file(run.output))["seconds"]
    print_funnel(manifest, arguments.output, seconds)
    print_counters(manifest, counted.documents)
    return 0


def set_store_options(given: Sequence[str], command: str, *, strict: bool) -> None:
    """Have the file systems of this process use Beam's options, such as ``--s3_endpoint_url``.

    Raises:
      InputError: ``strict``, and an option is none that Beam knows.
    """
    from apache_beam.options.pipeline_options import PipelineOptions

    if strict:
        known = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        for group in PipelineOptions.__subclasses__():
            with contextlib.suppress(argparse.ArgumentError):
                group._add_argparse_args(known)
        _, unknown = known.parse_known_args(list(given))
        if unknown:
            raise InputError(f"unknown option {unknown[0]}; see cidermill {command} --help")
    files.set_options(list(given))


def plan(arguments: argparse.Namespace) -> tuple[Run, list[Input]]:
    """The run and its inputs, settled before anything is read."""
    if not 0 < arguments.sample <= 1:
        raise InputError(f"--sample is {arguments.sample}; it must be above 0 and at most 1")
    if arguments.limit is not None and arguments.limit < 1:
        raise InputError(f"--limit is {arguments.limit}; it must be at least 1")
    if arguments.workers is not None and arguments.workers < 1:
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
        output=files.absolute(arguments.output),
        work=files.absolute(work),
        sample=arguments.sample,
        seed=arguments.seed,
        partitions=partitions(size),
        resources=resource_digests(recipe),
    )
    check_resources(recipe)
    return run, found


PARTITION_BYTES = 1 << 28
MAX_PARTITIONS = 1024


def partitions(size: int) -> int:
    """Into how many parts the keys of global stages are spread, for so many bytes of input."""
    return min(MAX_PARTITIONS, max(1, size // PARTITION_BYTES))


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
    timing = conclude.timing_file(arguments.output)
    seconds = files.read_json(timing)["seconds"] if files.exists(timing) else {}
    print_funnel(manifest, arguments.output, seconds, file=sys.stdout)
    return 0
