"""``cidermill pack``: a curated corpus to token shards, and the plan of a mixture over them."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import apache_beam as beam
import pyarrow as pa

from pipelines import corpus, files, held_out, tables
from pipelines.bars import Bars
from pipelines.corpus import Corpus, Table, Unit
from pipelines.engines import Engine, choose, run_on_engine
from pipelines.held_out import COPIES, LEAST, MOST, SHARE, SetAside
from pipelines.held_out_file import FILE
from pipelines.hold import hold, stoppable
from pipelines.inputs_error import InputError
from pipelines.local import Pool, sizes, slices
from pipelines.mixtures import load_mixture, shipped_mixtures
from pipelines.pack import PackDocuments, tokenized, write_index
from pipelines.pack_run import SHARD_TOKENS, PackRun, Tokenized, make_groups
from pipelines.resources import stage_resources
from pipelines.tokenizer_file import load, tokenizer_path
from pipelines.units import ReadUnits
from tokenizer.mixture import LONG, Mixture, MixtureError, Plan, natural, plan
from tokenizer.packing import CUTS, METHODS
from tokenizer.shards import INDEX

LOCAL = "local"
SEQUENCE_LENGTH = 4096
PLAN = "mixture.json"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``pack`` to the command line."""
    pack = commands.add_parser(
        "pack",
        help="turn a curated corpus into token shards",
        description="Tokenize the documents of a run and pack them into windows, without cutting "
        "any that fits in one. The same command again goes on where an earlier one was stopped. "
        "The format is told in docs/shards.md. Options that are not listed here go to Apache Beam.",
    )
    pack.add_argument("output", nargs="?", default="out", help="folder of the run (default: out)")
    pack.add_argument(
        "--sequence-length", type=int, metavar="N",
        help=f"tokens a window (default: {SEQUENCE_LENGTH}, or the mixture's)",
    )  # fmt: skip
    pack.add_argument(
        "--tokenizer", metavar="MODEL",
        help="a tokenizer.model (default: OUTPUT/tokenizer/tokenizer.model)",
    )  # fmt: skip
    pack.add_argument(
        "--mixture", metavar="NAME",
        help=f"plan a mixture of the sources: {', '.join(shipped_mixtures())}, or a YAML file",
    )  # fmt: skip
    pack.add_argument(
        "--tokens", type=float, metavar="N",
        help="with --mixture: tokens to plan for, such as 10e9 (default: as many as its bounds on "
        "repeats allow)",
    )  # fmt: skip
    pack.add_argument(
        "--packing", default="best-fit", choices=METHODS,
        help="best-fit cuts no document that fits in a window; concatenate cuts wherever a window "
        "is full (default: best-fit)",
    )  # fmt: skip
    pack.add_argument(
        "--cut", default="newline", choices=CUTS,
        help="where a document that is too long is cut: behind the last newline of a window's last "
        "eighth, or at its end (default: newline)",
    )  # fmt: skip
    pack.add_argument(
        "--long-tokens", type=int, metavar="N",
        help="pack documents of at least so many tokens as a source of their own, SOURCE.long "
        "(default: no, or the mixture's)",
    )  # fmt: skip
    pack.add_argument(
        "--shard-tokens", type=int, default=SHARD_TOKENS, metavar="N",
        help=f"tokens a shard, about (default: {SHARD_TOKENS})",
    )  # fmt: skip
    pack.add_argument(
        "--held-out", default=str(SHARE), metavar="SHARE|PATH",
        help="set documents aside for validation and remove their copies: a share of each source "
        f"(about {LEAST} to {MOST} documents, at most a tenth of a small source), or those that "
        "other shards have set aside, by folder or file; 0 packs all "
        f"(default: {SHARE})",
    )  # fmt: skip
    pack.add_argument("--seed", type=int, default=0, help="order of documents (default: 0)")
    pack.add_argument("--target", help="folder of the shards (default: OUTPUT/shards/LENGTH)")
    pack.add_argument("--work-dir", help="folder for unfinished work (default: OUTPUT/work)")
    pack.add_argument("--workers", "-w", type=int, help="worker processes (default: one a core)")
    pack.add_argument(
        "--runner", default=LOCAL, help="local (default), prism, flink, dataflow, any Beam runner"
    )
    pack.set_defaults(perform=perform)


def perform(arguments: argparse.Namespace) -> int:
    """Tokenize, pack, and plan the mixture."""
    mixture = load_mixture(arguments.mixture) if arguments.mixture else None
    _check(arguments, mixture)
    found = Corpus.open(arguments.output)
    if mixture is not None:
        _check_sources(mixture, found.sources)
    run = _plan_run(arguments, mixture)
    engine = None if arguments.runner == LOCAL else choose(arguments)
    with hold(run.work), hold(run.target), stoppable():
        # While shards are replaced, nothing may vouch for them.
        files.remove([files.join(run.target, name) for name in (INDEX, PLAN, FILE, COPIES)])
        run = _set_aside(arguments.held_out, run, found, engine)
        if engine is None:
            units = [unit for table in found.documents for unit in corpus.cut(table)]
            _run_locally(run, units, arguments.workers or os.cpu_count() or 1)
        else:
            build = partial(_build, tables=found.documents, run=run)
            run_on_engine(engine, run.work, build, lambda _: None, _say)
        copies = _list_copies(found, run)
        index = files.read_json(files.join(run.target, INDEX))
        _remove_strangers(run.target, index)
        windows = _windows(index)
        mixed = _mix(arguments, mixture, windows, run.sequence_length)
        files.write_json(files.join(run.target, PLAN), mixed.to_dict())
    print_loss(index)
    if run.held_out:
        held = held_out.read(run.target).num_rows
        print(
            f"held out {held} documents in {files.join(run.target, FILE)}; {copies} copies removed"
        )
    if mixture is not None:
        print("\n".join(mixed.lines()))
    print(f"shards   {run.target}")
    return 0


def _check(arguments: argparse.Namespace, mixture: Mixture | None) -> None:
    bounds = (("sequence_length", 16), ("long_tokens", 2), ("shard_tokens", 1), ("workers", 1))
    for name, least in bounds:
        value = getattr(arguments, name)
        if value is not None and value < least:
            option = name.replace("_", "-")
            raise InputError(f"--{option} is {value}; it must be at least {least}")
    if arguments.tokens is not None and mixture is None:
        raise InputError("--tokens needs --mixture, which says what they are made of")
    if arguments.tokens is not None and not 0 < arguments.tokens < float("inf"):
        raise InputError(f"--tokens is {arguments.tokens:g}; it must be above 0")


def _check_sources(mixture: Mixture, sources: Sequence[str]) -> None:
    """Refuse a mixture before anything is packed, where its components cannot fit the sources.

    Which of them have long documents is not known yet, so any may.
    """
    long = [source + LONG for source in sources] if mixture.long_tokens is not None else []
    try:
        mixture.assign([*sources, *long])
    except MixtureError as error:
        raise InputError(str(error)) from None


def _plan_run(arguments: argparse.Namespace, mixture: Mixture | None) -> PackRun:
    length = arguments.sequence_length or (mixture.sequence_length if mixture else SEQUENCE_LENGTH)
    if mixture is not None and length != mixture.sequence_length:
        raise InputError(
            f"--sequence-length is {length}, but the mixture {mixture.name!r} is for "
            f"{mixture.sequence_length}; leave one of them out"
        )
    work = files.absolute(arguments.work_dir or files.join(arguments.output, "work"))
    path = arguments.tokenizer or files.join(arguments.output, "tokenizer", "tokenizer.model")
    tokenizer = load(path)
    location = files.absolute(tokenizer_path(path))
    staged = dict(stage_resources({location: tokenizer.sha256}, work))
    target = arguments.target or files.join(arguments.output, "shards", str(length))
    return PackRun(
        work=work,
        target=files.absolute(target),
        tokenizer=staged.get(location, location),
        tokenizer_sha256=tokenizer.sha256,
        sequence_length=length,
        method=arguments.packing,
        cut=arguments.cut,
        long_tokens=arguments.long_tokens or (mixture.long_tokens if mixture else None),
        shard_tokens=arguments.shard_tokens,
        seed=arguments.seed,
        store=tuple(sorted(files.store_options().items())),
    )


def _set_aside(wanted: str, run: PackRun, found: Corpus, engine: Engine | None) -> PackRun:
    """Set documents aside, by a share or as they were set aside elsewhere."""
    try:
        share = float(wanted)
    except ValueError:
        table = held_out.read(wanted)
    else:
        if not 0.0 <= share <= 0.5:
            raise InputError(f"--held-out is {share:g}; a share must be from 0 to 0.5")
        if share == 0.0:
            return run
        counts = held_out.counts(found.documents)
        own = held_out.candidate_rates(counts, share)
        run = replace(run, held_out_rates=tuple(own.items()))
        if engine is None:
            units = (unit for table in found.documents for unit in corpus.cut(table))
            own_rows = [held_out.set_aside(unit, run) for unit in units]
            table = pa.concat_tables(own_rows)
        else:
            build = partial(_build_aside, tables=found.documents, run=run)
            run_on_engine(engine, run.work, build, lambda _: None, _say)
            one = run.aside_file(next(corpus.cut(found.documents[0])))
            table = held_out.gather(one, found.documents, held_out.ROWS)
        table = held_out.choose(table, held_out.wanted(counts, share))
    if not table.num_rows:
        _say("no document is set aside: the corpus is too small, or --held-out is")
        return replace(run, held_out_rates=())
    path = files.join(run.work, "held-out", FILE)
    content = tables.to_bytes(table)
    for place in (path, files.join(run.target, FILE)):
        files.write_bytes(place, content)
    digest = hashlib.sha256(content).hexdigest()
    staged = dict(stage_resources({path: digest}, run.work))
    return replace(run, held_out=staged[path], held_out_sha256=digest, held_out_rates=())


def _list_copies(found: Corpus, run: PackRun) -> int:
    """Write the list of what was kept from training; gives its length."""
    if run.held_out is None:
        return 0
    one = run.unit_file(next(corpus.cut(found.documents[0])), "copies.parquet")
    rows = held_out.gather(one, found.documents, held_out.COPY_ROWS)
    files.write_bytes(files.join(run.target, COPIES), tables.to_bytes(rows))
    return int(rows.num_rows)


def _build_aside(pipeline: beam.Pipeline, tables: Sequence[Table], run: PackRun) -> None:
    _ = pipeline | "Units" >> ReadUnits(tables, run.work) | "Set aside" >> SetAside(run)


def _run_locally(run: PackRun, units: Sequence[Unit], workers: int) -> None:
    """The graph in two waves; what lies between them is on disk."""
    with Bars() as bars, Pool(run, workers, bars.hear) as pool:
        bars.begin("tokenizing", sizes(units), "B")
        pool.perform(slices("tokenize", units, workers))
        by_source: dict[str, list[Tokenized]] = {}
        for unit in units:
            for item in tokenized(unit, run):
                by_source.setdefault(item.source, []).append(item)
        groups = [
            group
            for source, items in sorted(by_source.items())
            for group in make_groups(source, items, run.shard_tokens)
        ]
        bars.begin("packing", sizes(groups), " tokens")
        pool.perform(slices("pack", groups, workers))
    write_index([files.read_json(run.entry_file(group))["entry"] for group in groups], run)


def _build(pipeline: beam.Pipeline, tables: Sequence[Table], run: PackRun) -> None:
    _ = pipeline | "Units" >> ReadUnits(tables, run.work) | "Pack" >> PackDocuments(run)


def _remove_strangers(target: str, index: Mapping[str, Any]) -> None:
    """Remove shards of an earlier run with other settings, which the index does not name."""
    wanted = {name for shard in index["shards"] for name in shard["files"]}
    found = [path for path, _, _ in files.listing(files.join(target, "*"))]
    endings = (".tokens.npy", ".windows.npy", ".pieces.npy", ".documents.parquet")
    files.remove([p for p in found if p.endswith(endings) and p.rpartition("/")[2] not in wanted])
    files.remove_temporary(target)


def _windows(index: Mapping[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for shard in index["shards"]:
        found[shard["source"]] = found.get(shard["source"], 0) + shard["windows"]
    return found


def _mix(
    arguments: argparse.Namespace, mixture: Mixture | None, windows: Mapping[str, int], length: int
) -> Plan:
    if mixture is None:
        return natural("natural", windows, length)
    total = None if arguments.tokens is None else max(1, int(arguments.tokens) // length)
    try:
        return plan(mixture, windows, total)
    except MixtureError as error:
        raise InputError(str(error)) from None


def print_loss(index: Mapping[str, Any]) -> None:
    """What packing cost, by source: padding, cuts; nothing is cropped."""
    length = index["sequence_length"]
    print(
        f"{'source':<18}{'documents':>10}{'tokens':>14}{'bytes/token':>12}{'windows':>10}"
        f"{'padding':>9}{'cropped':>9}{'cut':>7}"
    )
    by_source: dict[str, dict[str, int]] = {}
    for shard in index["shards"]:
        row = by_source.setdefault(shard["source"], {})
        for key in ("documents", "tokens", "bytes", "windows", "padding", "cut_documents"):
            row[key] = row.get(key, 0) + shard[key]
    rows = [*sorted(by_source.items()), ("all", index["totals"])]
    for name, row in rows:
        places = row["windows"] * length
        print(
            f"{name:<18}{row['documents']:>10}{row['tokens']:>14}"
            f"{row['bytes'] / max(1, row['tokens']):>12.3f}{row['windows']:>10}"
            f"{row['padding'] / max(1, places):>9.2%}{0:>9.2%}{row['cut_documents']:>7}"
        )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
