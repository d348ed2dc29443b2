"""What every worker needs to know of a run, and where its files lie.

A ``Run`` travels with the graph. It holds the recipe's content, not its path, and everything that
was settled before the first record is read: hashes of what each phase depends on, and folders.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.resources
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.resources.abc import Traversable
from typing import Any

from filters.batch import StageFunction
from filters.decontamination.index import BenchmarkIndex
from filters.signal import Signal
from filters.stages import EXTRACT, GLOBAL, MEASURE
from pipelines import attempts, files
from pipelines.benchmark_indexes import open_index
from pipelines.inputs import Input
from pipelines.recipe import Recipe, StageSettings, digest
from pipelines.resources import local_copy

FORMAT = 1
"""Raised when the files of the work directory change their meaning."""

LIBRARIES = (
    "apache-beam",
    "brotli",
    "chardet",
    "datasketch",
    "fasttext",
    "lumi-language-id",
    "lxml",
    "numpy",
    "phonenumbers",
    "presidio-analyzer",
    "pyarrow",
    "sentencepiece",
    "tldextract",
    "trafilatura",
    "webencodings",
)
"""Libraries whose version can change what is stored; another version takes nothing over."""

TABLES = ("documents", "rejected", "decisions", "dead")


class Superseded(RuntimeError):
    """A worker of an earlier submission must not write over what a later one writes."""


@dataclass(frozen=True)
class Run(files.CarriesStore):
    """A run's recipe, folders, and the choices that every worker must share.

    ``sample`` is the share of records to read, chosen by ``seed`` and the record's id.
    ``partitions`` spreads the keys of global stages; results do not depend on it.
    ``resources`` maps files the recipe names to the SHA-256 of their content, and ``staged`` to
    where workers find them. ``token`` tells this submission from others into the same folders.
    ``isolated``: workers are processes of their own, which a page may take down. ``store`` is the
    options of file systems, such as the address of an S3 store.
    """

    recipe: Recipe
    output: str
    work: str
    sample: float = 1.0
    seed: int = 0
    partitions: int = 16
    resources: tuple[tuple[str, str], ...] = ()
    staged: tuple[tuple[str, str], ...] = ()
    token: str = ""
    isolated: bool = False
    store: tuple[tuple[str, Any], ...] = ()

    # --- workers ----------------------------------------------------------------------------

    @property
    def hang_seconds(self) -> float:
        """After so long in native code a worker ends itself."""
        return self.recipe.caps.hang_seconds

    def in_workers(self) -> Run:
        """The run as worker processes of this machine get it."""
        return replace(self, isolated=True)

    def forgive(self, task: str, item: Input) -> None:
        """Take back the notes of an attempt that was ended on purpose: its input is no suspect."""
        notes = {"screen": self.reading_notes, "finish": self.finishing_notes}
        if task in notes:
            attempts.forget(notes[task](item))

    # --- stages -----------------------------------------------------------------------------

    def measuring(self, source: str) -> tuple[StageSettings, ...]:
        """The stages of a source that look at one document alone and come before the global."""
        return tuple(s for s in self.recipe.chain(source) if s.spec.phase <= MEASURE)

    def finishing(self, source: str) -> tuple[StageSettings, ...]:
        """The stages of a source from the first global one on."""
        return tuple(s for s in self.recipe.chain(source) if s.spec.phase >= GLOBAL)

    def signals(self, source: str, *, measured: bool = False) -> list[Signal]:
        """Every signal that documents of a source can have, in the order of stages."""
        stages = self.measuring(source) if measured else self.recipe.chain(source)
        return [signal for stage in stages for signal in stage.spec.signals]

    def all_signals(self) -> list[Signal]:
        """The union over sources: all tables of a run share one schema."""
        found: dict[str, Signal] = {}
        for source in self.recipe.sources:
            found.update({signal.name: signal for signal in self.signals(source.name)})
        return list(found.values())

    def index(self, stage: StageSettings) -> BenchmarkIndex:
        """The benchmark indexes of a stage as one, opened once per process from local copies."""
        return open_index(self.local(stage).options.benchmarks)

    def local(self, stage: StageSettings) -> StageSettings:
        """A stage with this machine's copies of the files it names."""
        return stage.with_files(self.local_resource)

    def local_resource(self, path: str) -> str:
        """Where this machine has a file or folder that the recipe names."""
        digest = dict(self.resources).get(path)
        if digest is None:
            return path
        return _local_copy(dict(self.staged).get(path, path), digest)

    # --- fence ------------------------------------------------------------------------------

    @property
    def token_file(self) -> str:
        """Holds the token of the latest submission."""
        return files.join(self.work, "token")

    def claim(self) -> None:
        """Make this the submission whose workers may write final files."""
        if self.token:
            files.write_bytes(self.token_file, self.token.encode())

    def check_current(self) -> None:
        """Raise ``Superseded`` where a later submission has taken over the folders."""
        if self.token and files.read_bytes(self.token_file).decode() != self.token:
            raise Superseded(
                f"another run into {self.output} was started; this worker belongs to an earlier one"
            )

    # --- hashes -----------------------------------------------------------------------------

    def measured_hash(self, item: Input) -> str:
        """What the measured text and signals of an input depend on: no bound, but for those of
        stages before extraction, which decide what is extracted at all."""
        source = self.recipe.source(item.source)
        return digest(
            {
                "format": FORMAT,
                "code": code_hash("filters", "pipelines", *self._packages(item.source)),
                "libraries": library_versions(),
                "kind": item.kind,
                "options": dict(source.options),
                "caps": self._caps(),
                "stages": [
                    stage.canonical(rules=stage.spec.phase < EXTRACT)
                    for stage in self.measuring(item.source)
                ],
                "sample": [self.sample, self.seed if self.sample < 1 else 0],
                "limit": item.limit,
                "resources": self._digests(self.measuring(item.source)),
            }
        )[:16]

    def _packages(self, source: str) -> list[str]:
        """Packages beside those of every run whose code measures documents of a source."""
        return sorted({name for s in self.measuring(source) for name in s.spec.packages})

    def _caps(self) -> dict[str, Any]:
        """The caps that can change what is stored; the others decide how a run ends."""
        caps = dict(self.recipe.canonical()["caps"])
        return {k: v for k, v in caps.items() if k not in ("hang_seconds", "on_crash")}

    def screened_hash(self, item: Input) -> str:
        """What the decisions and sketches of an input depend on."""
        return digest(
            {
                "measured": self.measured_hash(item),
                "rules": [s.canonical() for s in self.measuring(item.source)],
                "global": [
                    s.canonical() for s in self.finishing(item.source) if s.spec.phase == GLOBAL
                ],
                "resources": self._digests(self.finishing(item.source)),
                "rank": self.source_rank(item.source),
            }
        )[:16]

    def finished_hash(self, item: Input, verdicts: bytes) -> str:
        """What the final files of an input depend on, the verdicts of global stages included."""
        return digest(
            {
                "screened": self.screened_hash(item),
                "stages": [s.canonical() for s in self.finishing(item.source)],
                "schema": [signal.name for signal in self.all_signals()],
                "keep_rejected": self.recipe.keep_rejected,
                "name": item.name,
                "verdicts": hashlib.sha256(verdicts).hexdigest(),
            }
        )[:16]

    def _digests(self, stages: Iterable[StageSettings]) -> list[str]:
        """The digests of the files that the options of these stages name."""
        known = dict(self.resources)
        return [known[path] for stage in stages for path in stage.named_files() if path in known]

    def source_rank(self, source: str) -> int:
        """The place of a source in the recipe: earlier sources win among duplicates."""
        return [s.name for s in self.recipe.sources].index(source)

    # --- places -----------------------------------------------------------------------------

    def input_file(self, key: str) -> str:
        """Where the description of an input is kept for the later phases."""
        return files.join(self.work, "inputs", f"{key}.json")

    def measured_folder(self, item: Input) -> str:
        """Where the measured batches of an input lie."""
        return files.join(self.work, "measured", item.key, self.measured_hash(item))

    def screened_folder(self, item: Input) -> str:
        """Where the sketches of an input lie."""
        return files.join(self.work, "screened", item.key, self.screened_hash(item))

    def finished_marker(self, key: str) -> str:
        """The account of one finished input."""
        return files.join(self.work, "finished", f"{key}.json")

    @property
    def attempts_folder(self) -> str:
        """All notes of attempts: few, for each goes with its attempt."""
        return files.join(self.work, attempts.FOLDER)

    def reading_notes(self, item: Input) -> str:
        """What the notes of attempts at reading and measuring an input begin with."""
        state = self.measured_hash(item)
        return files.join(self.attempts_folder, f"attempt-{item.key}-{state}-")

    def finishing_notes(self, item: Input) -> str:
        """What the notes of attempts at finishing an input begin with."""
        return files.join(self.attempts_folder, f"attempt-{item.key}-finish-")

    def verdicts_file(self, key: str) -> str:
        """The verdicts of the global stages on one input, where they pass between processes."""
        return files.join(self.work, "verdicts", f"{key}.bin")

    def table(self, table: str, key: str, source: str) -> str:
        """The file of one of the ``TABLES`` for one input."""
        return files.join(self.output, table, f"{source}-{key}.parquet")


_local_copy = functools.cache(local_copy)


@functools.cache
def build_stage(settings: StageSettings) -> StageFunction:
    """A stage ready to run on documents, built once per process."""
    return settings.spec.build(settings.options)


def batch_file(folder: str, number: int) -> str:
    """The file of one batch."""
    return files.join(folder, f"{number:06d}.parquet")


def done_file(folder: str) -> str:
    """The marker that an input's batches are all there."""
    return files.join(folder, "done.json")


def document_reference(key: str, number: int) -> int:
    """40 bits of input, 24 bits of record: a document as the global stages know it."""
    return int(key, 16) << 24 | number


def input_of_reference(reference: int) -> str:
    """The input's key in a document reference."""
    return f"{reference >> 24:010x}"


@functools.cache
def library_versions() -> dict[str, str]:
    """The installed version of each of ``LIBRARIES``."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


@functools.cache
def code_hash(*packages: str) -> str:
    """The SHA-256 of the packages' files: with other code, nothing stored is taken over."""
    total = hashlib.sha256()
    for package in packages:
        for name, content in _sources(importlib.resources.files(package), package):
            total.update(f"{name}\0{len(content)}\0".encode())
            total.update(content)
    return total.hexdigest()


def _sources(folder: Traversable, name: str) -> Iterable[tuple[str, bytes]]:
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        path = f"{name}/{entry.name}"
        if entry.is_dir():
            if entry.name != "__pycache__":
                yield from _sources(entry, path)
        elif not entry.name.endswith((".pyc", ".so")):
            yield path, entry.read_bytes()
