"""``cidermill tokenizer train``: a vocabulary from a curated corpus; and ``tokenizer encode``."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import apache_beam as beam
from tqdm import tqdm

from pipelines import files, sample, tokenizer_training
from pipelines.corpus import Corpus, Table
from pipelines.engines import choose, run_on_engine
from pipelines.hold import hold, stoppable
from pipelines.inputs_error import InputError
from pipelines.mixtures import load_mixture
from pipelines.sample import SampleTexts, Sampling
from pipelines.tokenizer_file import load
from pipelines.tokenizer_training import Plan
from pipelines.units import ReadUnits
from tokenizer import special
from tokenizer.mixture import Mixture, MixtureError
from tokenizer.model import UnencodableText
from tokenizer.train import Settings

LOCAL = "local"
MEGABYTE = 1_000_000
DEFAULT_MEGABYTES = 128.0


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``tokenizer`` to the command line."""
    tokenizer = commands.add_parser(
        "tokenizer",
        help="train a tokenizer on a curated corpus, and look at what it does",
        description="SentencePiece BPE as in AFM 2024: bytes for what has no piece, digits one by "
        "one, no normalisation, newline a piece of its own.",
    )
    actions = tokenizer.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_train(actions)
    encode = actions.add_parser(
        "encode",
        help="show the pieces of a text",
        description="Show how a text is cut into pieces. Without a text, standard input is read.",
    )
    encode.add_argument("model", help="a tokenizer.model, or the output folder that holds it")
    encode.add_argument("text", nargs="?", help="the text (default: standard input)")
    encode.add_argument("--ids", action="store_true", help="print ids and not pieces")
    encode.set_defaults(perform=_encode)


def _add_train(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    train = actions.add_parser(
        "train",
        help="train on a curated corpus",
        description="Draw a sample of the corpus, train on it, and write tokenizer.model, "
        "tokenizer.json, tokenizer_config.json and a card to OUTPUT/tokenizer. The same corpus and "
        "options give the same bytes. Options that are not listed here go to Apache Beam.",
    )
    train.add_argument("output", nargs="?", default="out", help="folder of the run (default: out)")
    train.add_argument(
        "--vocab-size", default="device", metavar="N",
        help="pieces in all, or a preset: "
        + ", ".join(f"{name} ({size})" for name, size in special.PRESETS.items())
        + " (default: device)",
    )  # fmt: skip
    train.add_argument(
        "--megabytes", type=float, default=DEFAULT_MEGABYTES, metavar="MB",
        help=f"text to train on, in 10^6 bytes of UTF-8 (default: {DEFAULT_MEGABYTES:g})",
    )  # fmt: skip
    train.add_argument("--seed", type=int, default=0, help="seed of the sample (default: 0)")
    train.add_argument(
        "--share", action="append", default=[], metavar="SOURCE=SHARE",
        help="share of a source in the training text, such as web=0.7; may be repeated "
        "(default: as large as each is)",
    )  # fmt: skip
    train.add_argument(
        "--mixture", metavar="NAME",
        help="take the shares of a mixture, as `cidermill pack --mixture` does",
    )  # fmt: skip
    train.add_argument(
        "--character-coverage", type=float, default=0.9995,
        help="share of the text whose characters get a piece (default: 0.9995)",
    )  # fmt: skip
    train.add_argument(
        "--split-by-whitespace", action="store_true",
        help="keep pieces within words (AFM's configuration lets them span words)",
    )  # fmt: skip
    train.add_argument(
        "--no-comparison", action="store_true",
        help="do not train a second tokenizer on unfiltered text for the card",
    )  # fmt: skip
    train.add_argument("--work-dir", help="folder for unfinished work (default: OUTPUT/work)")
    train.add_argument(
        "--workers", "-w", type=int, help="with --runner: the parallelism to ask for"
    )
    train.add_argument("--runner", default=LOCAL, help="what draws the sample: local (default), "
                       "prism, flink, dataflow, or any Beam runner")  # fmt: skip
    train.set_defaults(perform=_train)


def _train(arguments: argparse.Namespace) -> int:
    plan = _plan(arguments)
    folder = files.absolute(files.join(arguments.output, "tokenizer"))
    facts = tokenizer_training.current(folder, plan.state)
    if facts is None:
        work = files.absolute(arguments.work_dir or files.join(arguments.output, "work"))
        with hold(work), stoppable():
            paths = _draw(plan, work, arguments)
            with _bars(plan.settings.vocab_size) as progress:
                contents = tokenizer_training.train_all(plan, paths, progress)
            tokenizer_training.write(folder, contents)
            files.remove(paths)
        facts = tokenizer_training.current(folder, plan.state)
        assert facts is not None
    _print(facts, folder)
    return 0


def _plan(arguments: argparse.Namespace) -> Plan:
    if not arguments.megabytes > 0:
        raise InputError(f"--megabytes is {arguments.megabytes:g}; it must be above 0")
    found = Corpus.open(arguments.output)
    try:
        settings = Settings(
            vocab_size(arguments.vocab_size),
            arguments.character_coverage,
            arguments.split_by_whitespace,
        )
    except ValueError as error:
        raise InputError(str(error)) from None
    if arguments.share and arguments.mixture:
        raise InputError("give --share or --mixture, not both")
    shares = parse_shares(arguments.share, found.sources)
    groups: dict[str, tuple[str, ...]] = {name: (name,) for name in shares}
    if arguments.mixture:
        shares, groups = mixture_shares(load_mixture(arguments.mixture), found.sources)
    if not shares:
        shares, groups = {"all": 1.0}, {"all": found.sources}
    return Plan(
        found,
        settings,
        int(arguments.megabytes * MEGABYTE),
        arguments.seed,
        shares,
        groups,
        compare=not arguments.no_comparison and bool(found.rejected),
    )


def vocab_size(given: str) -> int:
    """A size that was given as a number or by the name of a preset."""
    if given in special.PRESETS:
        return special.PRESETS[given]
    try:
        return int(given)
    except ValueError:
        raise InputError(
            f"--vocab-size is {given!r}; give a number or one of {', '.join(special.PRESETS)}"
        ) from None


def parse_shares(given: list[str], sources: tuple[str, ...]) -> dict[str, float]:
    """Shares by source, scaled to 1 in all.

    Raises:
      InputError: not NAME=NUMBER, a source that the corpus lacks, or a share that is not positive.
    """
    found: dict[str, float] = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            share = float(value)
        except ValueError:
            raise InputError(f"--share {text}: give SOURCE=NUMBER, such as web=0.7") from None
        if name not in sources:
            raise InputError(
                f"--share {text}: the corpus has no source {name!r}, but {', '.join(sources)}"
            )
        if not 0 < share < float("inf"):
            raise InputError(f"--share {text}: a share must be above 0; leave the source out")
        found[name] = share
    total = sum(found.values())
    return {name: share / total for name, share in found.items()}


def mixture_shares(
    mixture: Mixture, sources: tuple[str, ...]
) -> tuple[dict[str, float], dict[str, tuple[str, ...]]]:
    """The shares of a mixture's components that there are, 1 in all, and their sources.

    Nothing, where its components are as large as they are.

    Raises:
      InputError: sources and components do not fit; see ``Mixture.assign``.
    """
    try:
        assigned = mixture.assign(sources)
    except MixtureError as error:
        raise InputError(str(error)) from None
    present = [(c.name, c.share) for c in mixture.components if c.share and assigned[c.name]]
    total = sum(share for _, share in present)
    shares = {name: float(share / total) for name, share in present}
    return shares, {name: assigned[name] for name in shares}


def _draw(plan: Plan, work: str, arguments: argparse.Namespace) -> list[str]:
    """Draw the sample with a graph of its own; gives its files."""
    draws = tuple(plan.draws())
    tables = [*plan.corpus.documents, *(plan.corpus.rejected if plan.compare else ())]
    folder = files.join(work, "samples", sample.state(draws, plan.seed, tables))
    store = tuple(sorted(files.store_options().items()))
    sampling = Sampling(draws, plan.seed, folder, store)
    build = partial(_build, tables=tables, work=work, sampling=sampling)
    print(
        f"drawing up to {sum(d.budget for d in draws) / MEGABYTE:.0f} MB from {len(tables)} tables",
        file=sys.stderr,
    )  # fmt: skip
    if arguments.runner == LOCAL:
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            build(pipeline)
    else:
        run_on_engine(choose(arguments), work, build, lambda _: None, _say)
    return [path for path, _, _ in files.listing(files.join(folder, "*.parquet"))]


def _build(pipeline: beam.Pipeline, tables: Sequence[Table], work: str, sampling: Sampling) -> None:
    _ = pipeline | "Units" >> ReadUnits(tables, work) | "Sample" >> SampleTexts(sampling)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _bars(size: int) -> Iterator[tokenizer_training.Progress]:
    """A progress bar for each tokenizer that is trained."""
    bars: dict[str, tqdm[Any]] = {}

    def show(name: str, merges: int) -> None:
        if name not in bars:
            if not sys.stderr.isatty():
                _say(f"training on {name} text")
            bars[name] = tqdm(
                total=size - special.FIXED, desc=f"training on {name} text", unit=" pieces",
                disable=None, leave=False,
            )  # fmt: skip
        bars[name].update(merges - bars[name].n)

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()


def _print(facts: Mapping[str, Any], folder: str) -> None:
    """What was trained, and how it does beside the one of unfiltered text."""
    cards = facts["cards"]
    print(f"{'':<26}" + "".join(f"{name:>12}" for name in cards))
    lines = (
        ("pieces", "vocabulary", "size", "d"),
        ("tokens a word", "usage", "tokens_per_word", ".3f"),
        ("tokens a character", "usage", "tokens_per_character", ".3f"),
        ("bytes a token", "usage", "bytes_per_token", ".2f"),
        ("tokens that are bytes", "usage", "byte_share", ".2%"),
    )
    for text, group, key, style in lines:
        row = "".join(format(format(card[group][key], style), ">12") for card in cards.values())
        print(f"{text:<26}{row}")
    odd = "".join(f"{sum(row['pieces'] for row in card['odd']):>12}" for card in cards.values())
    print(f"{'pieces that look wrong':<26}{odd}")
    for row in cards["curated"]["languages"][:5]:
        print(
            f"  {row['name']:<24}{row['tokens_per_word']:>12.3f} tokens a word, "
            f"{row['bytes_per_token']:.2f} bytes a token"
        )
    print(f"tokenizer {files.join(folder, 'tokenizer.model')}")
    print(f"card      {files.join(folder, 'card.html')}")


def _encode(arguments: argparse.Namespace) -> int:
    tokenizer = load(arguments.model)
    text = sys.stdin.read() if arguments.text is None else arguments.text
    try:
        ids = tokenizer.encode(text).tolist()
    except UnencodableText as error:
        raise InputError(str(error)) from None
    if arguments.ids:
        print(" ".join(map(str, ids)))
    else:
        print(" ".join(repr(tokenizer.pieces[number]) for number in ids))
    return 0
