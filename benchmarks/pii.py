"""Precision, recall and speed of the PII scrubber, beside plain Presidio, on labelled text.

Run ``python benchmarks/pii.py --data FOLDER``; the folder (or ``CIDERMILL_DATA``) holds ``pii/``
and ``text/`` as JSON lines. Both systems see the same texts in the same run. A truth span counts
as found if predictions of its category cover at least half of it; a prediction counts as right if
at least half of it lies in truth of its category. Presidio is the ``AnalyzerEngine`` with its
predefined English recognizers over an untrained spaCy pipeline, at its default threshold (0) and
at 0.5.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filters.pii import PiiOptions, scrub

Span = tuple[int, int, str]
Finder = Callable[[str], list[Span]]

LABELS = {
    "email": "EMAIL EMAIL_ADDRESS",
    "phone": "PHONE PHONE_NUMBER PHONE_VALID PHONE_STRICT_GROUPING PHONE_EXACT_GROUPING"
    " PHONE_POSSIBLE_ONLY PH_MOBILE_NUMBER TR_PHONE_NUMBER",
    "card": "CREDIT_CARD",
    "iban": "IBAN IBAN_CODE iban",
    "ip": "IP_ADDRESS ip_public",
    "mac": "MAC_ADDRESS",
    "crypto": "CRYPTO",
    "national_id": "SSN US_SSN US_ITIN US_MBI CA_SIN UK_NHS UK_NINO ES_NIF ES_NIE IT_FISCAL_CODE"
    " PL_PESEL FI_PERSONAL_IDENTITY_CODE SE_PERSONNUMMER DE_TAX_ID DE_SOCIAL_SECURITY"
    " TR_NATIONAL_ID SG_NRIC_FIN AU_TFN AU_MEDICARE IN_PAN IN_AADHAAR KR_RRN TH_TNIN ZA_ID_NUMBER"
    " PAN AADHAR",
}
CATEGORY_OF = {label: name for name, labels in LABELS.items() for label in labels.split()}
SECRET_LABELS = frozenset({"PASSWORD", "URL_PASSWORD"})
# What a page would call each number, by the name that python-stdnum gives its kind.
STDNUM_NAMES = {
    "us.ssn": "SSN",
    "us.itin": "ITIN",
    "gb.nhs": "NHS number",
    "es.dni": "DNI",
    "es.nie": "NIE",
    "it.codicefiscale": "codice fiscale",
    "pl.pesel": "PESEL",
    "fi.hetu": "henkilötunnus",
    "se.personnummer": "personnummer",
    "de.idnr": "Steuer-ID",
    "tr.tckimlik": "TC kimlik no",
    "au.tfn": "tax file number",
    "in_.pan": "PAN",
    "in_.aadhaar": "Aadhaar",
    "kr.rrn": "RRN",
    "th.pin": "เลขประจำตัวประชาชน",
    "za.idnr": "South African ID",
    "ca.sin": "social insurance number",
}


@dataclass(slots=True)
class Tally:
    truth: int = 0
    found: int = 0
    predicted: int = 0
    right: int = 0

    def __str__(self) -> str:
        precision = self.right / self.predicted if self.predicted else float("nan")
        recall = self.found / self.truth if self.truth else float("nan")
        both = precision + recall
        f1 = 2 * precision * recall / both if both else 0.0
        return (
            f"truth {self.truth:5d}  P {precision:.3f}  R {recall:.3f}  F1 {f1:.3f}"
            f"  (right {self.right} of {self.predicted}, found {self.found})"
        )


def rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def cidermill(text: str) -> list[Span]:
    edits = scrub(text, "en", PiiOptions(ip_ranges="all"))[1]
    return [(edit.start, edit.end, edit.reason.removeprefix("pii.")) for edit in edits]


def cidermill_default(text: str) -> list[Span]:
    edits = scrub(text, "en", PiiOptions())[1]
    return [(edit.start, edit.end, edit.reason.removeprefix("pii.")) for edit in edits]


def plain_presidio() -> Any:
    """The analyzer as its users build it, with an NLP engine that needs no trained model."""
    import spacy
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import SpacyNlpEngine
    from spacy.language import Language

    # Presidio looks for context words among lemmas: without a model, the words themselves.
    @Language.component("lower_lemmas")  # type: ignore[untyped-decorator]
    def lower_lemmas(doc: Any) -> Any:
        for token in doc:
            token.lemma_ = token.lower_
        return doc

    class BlankEngine(SpacyNlpEngine):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.nlp = {"en": spacy.blank("en")}
            self.nlp["en"].add_pipe("lower_lemmas")

        def load(self) -> None:
            """Nothing to download."""

    import tldextract

    tldextract.tldextract.TLD_EXTRACTOR.suffix_list_urls = ()
    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"])
    return AnalyzerEngine(registry=registry, nlp_engine=BlankEngine(), supported_languages=["en"])


def presidio_at(engine: Any, threshold: float) -> Finder:
    def find(text: str) -> list[Span]:
        results = engine.analyze(text, language="en", score_threshold=threshold)
        return [
            (r.start, r.end, CATEGORY_OF[r.entity_type])
            for r in results
            if r.entity_type in CATEGORY_OF
        ]

    return find


def overlap(span: Span, others: list[Span]) -> int:
    """How many characters of ``span`` lie in spans of the same category."""
    covered = {
        at
        for start, end, category in others
        if category == span[2]
        for at in range(max(start, span[0]), min(end, span[1]))
    }
    return len(covered)


def score(truth: list[Span], predicted: list[Span], tallies: dict[str, Tally]) -> None:
    for span in truth:
        tally = tallies[span[2]]
        tally.truth += 1
        tally.found += 2 * overlap(span, predicted) >= span[1] - span[0]
    for span in sorted(set(predicted)):
        tally = tallies[span[2]]
        tally.predicted += 1
        tally.right += 2 * overlap(span, truth) >= span[1] - span[0]


def truth_of(row: dict[str, Any], secret: bool = False) -> list[Span]:
    spans = []
    for span in row["spans"]:
        kind = span["type"]
        category = CATEGORY_OF.get(kind)
        if category is None and (secret or kind in SECRET_LABELS):
            category = "secret"
        if category is not None:
            spans.append((span["start"], span["end"], category))
    return spans


def print_tallies(title: str, systems: dict[str, dict[str, Tally]]) -> None:
    print(f"\n## {title}")
    for category in sorted({name for tallies in systems.values() for name in tallies}):
        for system, tallies in systems.items():
            if category in tallies:
                print(f"{category:12s} {system:14s} {tallies[category]}")


def labelled(data: Path, name: str, finders: dict[str, Finder]) -> None:
    systems: dict[str, dict[str, Tally]] = {system: defaultdict(Tally) for system in finders}
    for row in rows(data / "pii" / f"{name}.jsonl.gz"):
        truth = truth_of(row, secret=name.startswith("secrets"))
        for system, find in finders.items():
            score(truth, find(row["text"]), systems[system])
    print_tallies(name, {system: dict(tallies) for system, tallies in systems.items()})


def identifiers(data: Path, finders: dict[str, Finder]) -> None:
    """Recall on valid national numbers, bare and after their name; hits on other numbers."""
    print("\n## ids_stdnum_valid_numbers (recall; other = hits on numbers of other kinds)")
    hits: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for row in rows(data / "pii" / "ids_stdnum_valid_numbers.jsonl.gz"):
        if not row["valid"]:
            continue
        kind = row["spans"][0]["type"]
        known = kind in STDNUM_NAMES or kind == "iban"
        texts = {"bare": row["text"]}
        if kind in STDNUM_NAMES:
            texts["named"] = f"{STDNUM_NAMES[kind]}: {row['text']}"
        for system, find in finders.items():
            for form, text in texts.items():
                count = hits[(kind if known else "other", form, system)]
                count[0] += bool(find(text))
                count[1] += 1
    for (kind, form, system), (hit, total) in sorted(hits.items()):
        print(f"{kind:18s} {form:6s} {system:14s} {hit:5d} of {total:5d}  {hit / total:.3f}")


def clean(data: Path, finders: dict[str, Finder], limit: int) -> None:
    """Findings per 1000 pages of text that is expected to hold few, and time a page."""
    names = [
        "free_docs_main_text",
        "negative_lowquality_pages_fulltext",
        "openstax_economics",
        "peps",
        "state_of_the_union",
        "wikitext2_valid_test",
        "novels_en",
    ]
    for name in names:
        pages = []
        for row in rows(data / "text" / f"{name}.jsonl.gz"):
            text = row["text"]
            pages += [text[at : at + 5000] for at in range(0, len(text), 5000)]
        pages = pages[:: max(1, len(pages) // limit)][:limit]
        print(f"\n## {name}: {len(pages)} pages of at most 5000 characters")
        for system, find in finders.items():
            counts: dict[str, int] = defaultdict(int)
            began = time.perf_counter()
            for page in pages:
                for _, _, category in find(page):
                    counts[category] += 1
            spent = (time.perf_counter() - began) / len(pages) * 1000
            per_1000 = {k: round(1000 * n / len(pages), 1) for k, n in sorted(counts.items())}
            print(f"{system:14s} {spent:7.3f} ms a page  per 1000 pages: {per_1000}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", default=os.environ.get("CIDERMILL_DATA"))
    parser.add_argument("--pages", type=int, default=200, help="pages per clean text (default 200)")
    parser.add_argument("--ours-only", action="store_true", help="leave Presidio out")
    options = parser.parse_args()
    if options.data is None or not (Path(options.data) / "pii").is_dir():
        print("skipped: no labelled data; give its folder by --data or CIDERMILL_DATA")
        return 0
    data = Path(options.data)
    finders: dict[str, Finder] = {"cidermill": cidermill}
    speed: dict[str, Finder] = {"cidermill": cidermill_default}
    if not options.ours_only:
        engine = plain_presidio()
        finders |= {f"presidio {at:g}": presidio_at(engine, at) for at in (0.0, 0.5)}
        speed["presidio 0.5"] = presidio_at(engine, 0.5)
    for find in finders.values():
        find("warm up: bob@example.com, +1 415 555 0132")
    for name in (
        "presidio_synth_v2",
        "pii_synthetic_nano",
        "presidio_recognizer_testvectors",
        "phones_libphonenumber_matcher",
        "phones_formatted_examples",
        "secrets_credsweeper_samples",
        "secrets_detect_secrets_tests",
    ):
        labelled(data, name, finders)
    identifiers(data, finders)
    clean(data, speed, options.pages)
    return 0


if __name__ == "__main__":
    sys.exit(main())
