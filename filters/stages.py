"""The registry of stages: what a recipe can name, in the order in which stages run.

Each stage says which signals it measures, which options it has, and how to build the function
that runs on one document. The functions themselves live in the modules beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from filters import (
    c4,
    code_recognition,
    extraction,
    fineweb,
    gopher,
    language,
    math_recognition,
    model_score,
    pii,
    quality,
    record_signals,
    repetition,
    safety,
    url,
)
from filters.batch import StageFunction, Together
from filters.decontamination import signals as decontamination_signals
from filters.dedup import signals as dedup_signals
from filters.dedup.signatures import SignatureParams
from filters.document import Document, Edit
from filters.signal import Signal
from filters.words import TextView

BEFORE, EXTRACT, MEASURE, GLOBAL, FINISH = range(5)
"""Phases. Rules of stages before extraction spare a page the work; global stages see hashes only;
what finishes a document runs on survivors alone."""


@dataclass(frozen=True)
class NoOptions:
    """A stage without options."""


@dataclass(frozen=True)
class StageSpec:
    """A stage as the registry knows it.

    ``summary`` is its line in listings. ``build`` turns options into the function that runs on a
    document; ``evidence(document, signal, options)`` gives what a signal saw. ``files`` names the
    options that hold paths of files, whose content belongs to a run's hashes: several, or one that
    must be given. ``check(options)`` raises where these files cannot be used. ``packages`` are
    those beside this one whose code measures.
    """

    name: str
    phase: int
    summary: str
    signals: tuple[Signal, ...]
    build: Callable[[Any], StageFunction]
    options: Callable[[], Any] = NoOptions
    evidence: Callable[[Document, str, Any], str] | None = None
    files: tuple[str, ...] = ()
    check: Callable[[Any], None] | None = None
    packages: tuple[str, ...] = ()


def nothing(_options: Any) -> StageFunction:
    """A stage whose signals are measured elsewhere: by the reader, or by a global stage."""
    return lambda _document: []


def view(document: Document) -> TextView:
    """The words and lines of a document's present text, found once and shared by stages."""
    held = document.derived
    if not isinstance(held, TextView) or held.text is not document.text:
        held = document.derived = TextView(document.text)
    return held


# --- url ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class UrlOptions:
    """``domains`` are files of domains to block beside the shipped list: plain, hosts or UT1
    format, or compiled to ``.npy``."""

    domains: tuple[str, ...] = ()


def _build_url(options: UrlOptions) -> StageFunction:
    rules = url.rules(options.domains)

    def stage(document: Document) -> list[Edit]:
        document.signals.update(rules.measure(document.url))
        return []

    return stage


# --- extract ------------------------------------------------------------------------------------


def _build_extract(options: extraction.ExtractionOptions) -> StageFunction:
    def stage(document: Document) -> list[Edit]:
        if document.html:
            found = extraction.extract(document.html, document.url, options)
            document.text = found.text
            if found.title:
                document.metadata["title"] = found.title
        document.signals.update(extraction.measure(document.text, document.html))
        return []

    return stage


# --- one function a stage -----------------------------------------------------------------------


def _build_language(_options: NoOptions) -> StageFunction:
    def stage(document: Document) -> list[Edit]:
        measured = language.measure(document.text)
        document.signals.update(measured)
        document.language = str(measured["language.code"])
        return []

    return stage


def _build_math(_options: NoOptions) -> StageFunction:
    def stage(document: Document) -> list[Edit]:
        host = url.host(document.url)
        document.signals.update(math_recognition.measure(document.text, document.html, host))
        return []

    return stage


def _build_code(_options: NoOptions) -> StageFunction:
    def stage(document: Document) -> list[Edit]:
        document.signals.update(code_recognition.measure(document.text, document.html))
        return []

    return stage


def _build_gopher(_options: NoOptions) -> StageFunction:
    def stage(document: Document) -> list[Edit]:
        document.signals.update(gopher.measure(view(document), document.language))
        return []

    return stage


def _build_repetition(_options: NoOptions) -> StageFunction:
    def stage(document: Document) -> list[Edit]:
        document.signals.update(repetition.measure(view(document)))
        return []

    return stage


def _build_c4(options: c4.C4Options) -> StageFunction:
    def stage(document: Document) -> list[Edit]:
        edits: list[Edit] = []
        if not any(document.signals.get(name) for name in options.spare):
            document.text, edits = c4.edit(document.text, options)
        document.signals.update(c4.measure(view(document)))
        return edits

    return stage


def _build_fineweb(_options: NoOptions) -> StageFunction:
    def stage(document: Document) -> list[Edit]:
        document.signals.update(fineweb.measure(view(document)))
        return []

    return stage


def _build_safety(_options: NoOptions) -> StageFunction:
    def stage(document: Document) -> list[Edit]:
        document.signals.update(safety.measure(document.text, document.language))
        return []

    return stage


def _build_quality(_options: NoOptions) -> StageFunction:
    def stage(document: Document) -> list[Edit]:
        document.signals.update(quality.measure(document.text, document.language))
        return []

    return stage


def _build_model(options: model_score.ModelOptions) -> StageFunction:
    # Here: a model that is damaged is no fault of a document.
    model_score.load(options.file, options.window)

    def measure(documents: Sequence[Document]) -> None:
        texts = [document.text for document in documents]
        for document, found in zip(documents, model_score.measure(texts, options), strict=True):
            document.signals.update(found)

    return Together(measure, model_score.TOGETHER)


# --- global and last ----------------------------------------------------------------------------


@dataclass(frozen=True)
class DuplicateOptions:
    """Shingles of ``ngram`` words; signatures of ``bands`` times ``rows`` hash values; documents of
    fewer than ``min_shingles`` different shingles are compared for equality only."""

    ngram: int = 5
    bands: int = 14
    rows: int = 8
    min_shingles: int = 20

    def __post_init__(self) -> None:
        self.signature()

    @property
    def permutations(self) -> int:
        """Hash values in a signature."""
        return self.bands * self.rows

    def signature(self) -> SignatureParams:
        """The parameters of a signature; ``ValueError`` where they make none."""
        return SignatureParams(
            ngram=self.ngram, bands=self.bands, rows=self.rows, min_shingles=self.min_shingles
        )


@dataclass(frozen=True)
class DecontaminationOptions:
    """``benchmarks`` are folders of indexes, or ``demo`` for the invented one in the package. An
    n-gram in ``common_usage`` distinct documents or more is no sign of contamination."""

    benchmarks: tuple[str, ...] = ("demo",)
    common_usage: int = 1000


def _build_pii(options: pii.PiiOptions) -> StageFunction:
    def stage(document: Document) -> list[Edit]:
        document.text, edits, counts = pii.scrub(document.text, document.language, options)
        document.signals.update(counts)
        return edits

    return stage


_ALL = (
    StageSpec(
        "read",
        BEFORE,
        "Records as they were stored: kind, HTTP status, MIME type, charset, robots directives",
        record_signals.SIGNALS,
        nothing,
    ),
    StageSpec(
        "url",
        BEFORE,
        "Blocked domains, and banned words in the address",
        url.SIGNALS,
        _build_url,
        UrlOptions,
        lambda document, signal, options: url.rules(options.domains).evidence(document.url, signal),
        ("domains",),
    ),
    StageSpec(
        "extract",
        EXTRACT,
        "Main text of the page (trafilatura)",
        extraction.SIGNALS,
        _build_extract,
        extraction.ExtractionOptions,
    ),
    StageSpec(
        "language",
        MEASURE,
        "Language (fastText lid.176)",
        language.SIGNALS,
        _build_language,
        evidence=lambda document, _signal, _options: document.language,
    ),
    StageSpec(
        "math",
        MEASURE,
        "Mathematics: tag filter, symbol filter, domain list (AFM)",
        math_recognition.SIGNALS,
        _build_math,
        evidence=lambda document, _signal, _options: math_recognition.evidence(document.text, ""),
    ),
    StageSpec("code", MEASURE, "Program code in the page", code_recognition.SIGNALS, _build_code),
    StageSpec("gopher", MEASURE, "Gopher's document quality rules", gopher.SIGNALS, _build_gopher),
    StageSpec(
        "repetition",
        MEASURE,
        "Gopher's repetition rules",
        repetition.SIGNALS,
        _build_repetition,
    ),
    StageSpec("c4", MEASURE, "C4: lines removed, page rules", c4.SIGNALS, _build_c4, c4.C4Options),
    StageSpec("fineweb", MEASURE, "FineWeb's line rules", fineweb.SIGNALS, _build_fineweb),
    StageSpec(
        "safety",
        MEASURE,
        "Profanity lexicon and toxicity classifier",
        safety.SIGNALS,
        _build_safety,
        evidence=lambda document, _signal, _options: safety.evidence(
            document.text, document.language
        ),
    ),
    StageSpec("quality", MEASURE, "Quality classifier", quality.SIGNALS, _build_quality),
    StageSpec(
        "model",
        MEASURE,
        "Bits per byte under a quantized language model",
        model_score.SIGNALS,
        _build_model,
        model_score.ModelOptions,
        files=("file",),
        check=model_score.check,
        packages=("runtime", "tokenizer"),
    ),
    StageSpec(
        "duplicates",
        GLOBAL,
        "Exact, then near-duplicates over all inputs (MinHash LSH, verified)",
        dedup_signals.SIGNALS,
        nothing,
        DuplicateOptions,
    ),
    StageSpec(
        "decontamination",
        GLOBAL,
        "Items of evaluation benchmarks (AFM)",
        decontamination_signals.SIGNALS,
        nothing,
        DecontaminationOptions,
        files=("benchmarks",),
    ),
    StageSpec(
        "pii",
        FINISH,
        "Personal data and secrets replaced by typed, stable placeholders (Presidio)",
        pii.SIGNALS,
        _build_pii,
        pii.PiiOptions,
    ),
)

STAGES: dict[str, StageSpec] = {spec.name: spec for spec in _ALL}
"""Every stage by name, in the order in which stages may stand in a recipe."""
