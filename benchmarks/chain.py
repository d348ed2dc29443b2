"""Our chain beside datatrove's FineWeb chain and a plain loop, same pages, one process, as ratios.

    python benchmarks/chain.py --input 'pages/*.warc.gz' [--pages 600]

Three passes over the same pages, in turn, several times, so that the machine's mood hits all alike;
CPU time. The pages lie in one JSONL file.

* **ours**: the stages of the recipe ``fineweb`` through Beam (FnApiRunner), from the file to stored
  texts, signals and sketches;
* **loop**: the same functions in a plain Python loop over the same file, without Beam and without
  anything stored;
* **datatrove**: trafilatura, language, Gopher repetition and quality, C4, FineWeb and MinHash
  signature, as in its examples/fineweb.py, over pages in memory. Each filter is asked even where an
  earlier one said no, and ours does the same.

What ours has beyond that (URL rules, duplicates across inputs, decontamination, scrubbing, tables)
is in a full run's own account of time (``timing.json``). Skips datatrove where it is not
installed. Datatrove gets trafilatura as it is published, without our remembered tests.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pipelines.quiet  # noqa: F401 - before Beam is imported

ROUNDS = 3
"""Each pass is made so often; a ratio is given for each round, and their median."""


def read_pages(paths: list[str], count: int) -> list:
    """HTML pages as documents with markup, evenly from each file (WARC, or JSONL with ``html``)."""
    from pipelines.inputs import kind_of
    from pipelines.sources.records import read_records

    pages = []
    for path in paths:
        kind = kind_of(path) or "warc"
        options = {"html_field": "html"} if kind == "jsonl" else {}
        with open(path, "rb") as handle:
            records = read_records(
                kind,
                handle,
                name=path,
                source="input",
                identify=lambda n: f"{n:032x}",
                options=options,
            )
            found = [d for d in records if getattr(d, "html", "")]
        step = max(1, len(found) * len(paths) // count)
        pages += found[::step]
    return pages[:count]


def ours_loop(path: Path, seconds: Counter[str]) -> float:
    """Read, the measuring stages and the sketch, page by page; gives its CPU seconds."""
    from filters.dedup.signatures import SignatureParams, content_hash, signature
    from pipelines.decide import local_decisions
    from pipelines.recipe import load
    from pipelines.run import build_stage
    from pipelines.sources.records import read_records

    stages = [s for s in load("fineweb").stages if s.spec.phase <= 2]
    params = SignatureParams()
    start = time.process_time()
    with open(path, "rb") as handle:
        records = read_records(
            "jsonl",
            handle,
            name="",
            source="input",
            identify=lambda n: f"{n:032x}",
            options={"html_field": "html"},
        )
        began = time.perf_counter()
        for page in records:
            seconds["read"] += time.perf_counter() - began
            for stage in stages:
                began = time.perf_counter()
                build_stage(stage)(page)
                seconds[stage.name] += time.perf_counter() - began
            began = time.perf_counter()
            if not any(d.action == "drop" for d in local_decisions(page, stages)):
                content_hash(page.text)
                signature(page.text, params)
            seconds["sketch"] += time.perf_counter() - began
            began = time.perf_counter()
    return time.process_time() - start


class Datatrove:
    """The blocks of datatrove's FineWeb example, asked one after another."""

    def __init__(self) -> None:
        from datatrove.data import Document
        from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
        from datatrove.pipeline.extractors import Trafilatura
        from datatrove.pipeline.filters import (
            C4QualityFilter,
            FineWebQualityFilter,
            GopherQualityFilter,
            GopherRepetitionFilter,
        )
        from datatrove.utils.hashing import HashConfig

        self._document = Document
        self._extractor = Trafilatura(favour_precision=True, timeout=30)
        self._filters = {
            "repetition": GopherRepetitionFilter(),
            "gopher": GopherQualityFilter(),
            "c4": C4QualityFilter(filter_no_terminal_punct=False),
            "fineweb": FineWebQualityFilter(),
        }
        self._signature = MinhashDedupSignature(
            "unused", config=MinhashConfig(hash_config=HashConfig(hash_fc="sha1", precision=64))
        )

    def run(self, pages: list, seconds: Counter[str]) -> None:
        from filters import language

        for page in pages:
            self._time(seconds, "extract", lambda page=page: self._extract(page))
            document = self._document(text=page.text, id=page.id)
            # Its language filter calls fastText as ours does; the model's time is the same.
            self._time(seconds, "language", lambda d=document: language.measure(d.text))
            for name, block in self._filters.items():
                self._time(seconds, name, lambda b=block, d=document: b.filter(d))
            self._time(seconds, "minhash", lambda d=document: self._sign(d))

    def _extract(self, page) -> None:
        page.text = self._extractor.extract(page.html) or ""

    def _sign(self, document) -> None:
        shingles = self._signature.get_shingles(document.text)
        if shingles.size:
            self._signature.get_signature(shingles)

    @staticmethod
    def _time(seconds: Counter[str], name: str, work: Callable[[], object]) -> None:
        began = time.perf_counter()
        work()
        seconds[name] += time.perf_counter() - began


@contextlib.contextmanager
def trafilatura_as_published() -> Iterator[None]:
    """Take our remembered tests out of trafilatura for a while."""
    from trafilatura import xpaths

    from filters.element_tests import RememberedTest

    lists = [xpaths.OVERALL_DISCARD_XPATH, xpaths.PRECISION_DISCARD_XPATH]
    ours = [list(expressions) for expressions in lists]
    for expressions in lists:
        expressions[:] = [
            e._expression if isinstance(e, RememberedTest) else e for e in expressions
        ]
    try:
        yield
    finally:
        for expressions, faster in zip(lists, ours, strict=True):
            expressions[:] = faster


def copies(pages: list) -> list:
    """Fresh documents, since stages change them."""
    from filters.document import Document

    return [Document(p.id, p.url, p.source, html=p.html, signals=dict(p.signals)) for p in pages]


def write_jsonl(pages: list, path: Path) -> None:
    import json

    rows = (json.dumps({"html": p.html, "url": p.url}) for p in pages)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8", errors="replace")


def through_beam(path: Path, folder: Path, seconds: Counter[str]) -> float:
    """The measuring half of the graph over the same pages, as one input; gives its CPU seconds."""
    import apache_beam as beam

    from pipelines import inputs, progress
    from pipelines.recipe import Source, load
    from pipelines.run import Run
    from pipelines.screen import ScreenInputs

    source = Source("input", "jsonl", (str(path),), options={"html_field": "html"})
    run = Run(load("fineweb").with_sources([source]), str(folder / "out"), str(folder / "work"))
    found = inputs.with_unique_keys(inputs.find("input", [str(path)], kind="jsonl"))
    told: Counter[str] = Counter()
    progress.batch_done = lambda _key, _records, _kept, _offset, spent: told.update(spent)
    began = time.process_time()
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        tasks = [item.to_json() for item in found]
        _ = pipeline | beam.Create(tasks).with_output_types(str) | ScreenInputs(run)
    spent = time.process_time() - began
    seconds.update(told)
    seconds["engine and files"] += spent - sum(told.values())
    return spent


def table(title: str, seconds: Counter[str], pages: int) -> None:
    print(f"\n{title}: {1000 * sum(seconds.values()) / pages:.1f} ms a page")
    for name, spent in seconds.most_common():
        print(f"  {name:<18}{1000 * spent / pages:>8.2f} ms")


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", required=True, help="WARC or JSONL files, a glob")
    parser.add_argument("--pages", type=int, default=600)
    arguments = parser.parse_args()
    paths = sorted(glob.glob(arguments.input))
    if not paths:
        print(f"skipped: {arguments.input} matches no file")
        return
    try:
        peer = Datatrove()
    except ImportError as error:
        print(f"datatrove skipped: {error}; pip install --no-deps datatrove, and what it names")
        peer = None
    pages = read_pages(paths, arguments.pages)
    loop, beam, theirs = Counter(), Counter(), Counter()
    beam_ratios, loop_ratios, peer_ratios = [], [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path, few = folder / "pages.jsonl", folder / "few.jsonl"
        write_jsonl(pages, path)
        write_jsonl(pages[:5], few)
        # Models load and caches fill before anything counts.
        ours_loop(few, Counter())
        through_beam(few, folder / "warm", Counter())
        if peer:
            peer.run(copies(pages[:5]), Counter())
        for turn in range(ROUNDS):
            plain = ours_loop(path, loop)
            engine = through_beam(path, folder / str(turn), beam)
            beam_ratios.append(engine / plain)
            if peer:
                with trafilatura_as_published():
                    began = time.process_time()
                    peer.run(copies(pages), theirs)
                    spent = time.process_time() - began
                peer_ratios.append(spent / engine)
                loop_ratios.append(spent / plain)
    print(f"{len(pages)} pages, {ROUNDS} rounds")
    count = len(pages) * ROUNDS
    table("plain loop", loop, count)
    table("through Beam, texts and sketches stored", beam, count)
    print(f"\nBeam against the loop: {median(beam_ratios):.2f} ({_list(beam_ratios)})")
    if peer:
        table("datatrove", theirs, count)
        print(f"\ndatatrove against ours through Beam: {median(peer_ratios):.2f} "
              f"({_list(peer_ratios)})")  # fmt: skip
        print(f"datatrove against our plain loop: {median(loop_ratios):.2f} ({_list(loop_ratios)})")


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


if __name__ == "__main__":
    main()
