"""Our text heuristics beside datatrove's: time a page, and agreement of verdicts rule by rule.

    python benchmarks/heuristics.py --data FOLDER [--pages 300]

FOLDER (or the environment variable CIDERMILL_DATA) holds texts of pages as ``.jsonl.gz``:
``extraction/articles`` (main text of articles), ``quality/weborganizer_topic_format`` (extracted
Common Crawl pages) and ``text/negative_lowquality_pages_fulltext`` (log-in, shop and listing pages
with all their text). Texts with less than four fifths of their letters in ASCII are left out, for
datatrove's English tokenizer is no measure for them. Each text is judged by both sides, in one
process, in turn.

A rule's verdicts are datatrove's filter with all its other rules switched off, and our signal
against its default bound. ``agree`` is the share of texts with the same verdict; ``both`` of
``either`` tells how many of the texts that one side drops are dropped by both, which says more
where a rule seldom drops. Times are those of a chain in the order of the rows, no filter ending it
early. Datatrove keeps the words of a text for the next filter, so they are counted once, in
``words``; but C4's sentences push them out, and FineWeb's filter splits again, as it does in use.

Skips where the data or datatrove is absent (``pip install datatrove nltk spacy regex``).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filters import c4, fineweb, gopher, repetition
from filters.document import Value
from filters.words import TextView

SOURCES = (
    ("extraction/articles.jsonl.gz", "gold_text"),
    ("quality/weborganizer_topic_format.jsonl.gz", "text"),
    ("text/negative_lowquality_pages_fulltext.jsonl.gz", "text"),
)
BOUNDS = {
    signal.name: signal.default
    for module in (gopher, repetition, c4, fineweb)
    for signal in module.SIGNALS
}
PAPER_PAGE = c4.C4Options(terminal_punctuation=False)

GOPHER_OFF = {
    "min_doc_words": None,
    "max_doc_words": None,
    "min_avg_word_length": None,
    "max_avg_word_length": None,
    "max_symbol_word_ratio": None,
    "max_bullet_lines_ratio": None,
    "max_ellipsis_lines_ratio": None,
    "max_non_alpha_words_ratio": None,
    "min_stop_words": None,
}
GOPHER_RULES = {
    "gopher.word_count": {"min_doc_words": 50, "max_doc_words": 100_000},
    "gopher.mean_word_length": {"min_avg_word_length": 3, "max_avg_word_length": 10},
    "gopher.symbol_ratio_hash gopher.symbol_ratio_ellipsis": {"max_symbol_word_ratio": 0.1},
    "gopher.bullet_line_ratio": {"max_bullet_lines_ratio": 0.9},
    "gopher.ellipsis_line_ratio": {"max_ellipsis_lines_ratio": 0.3},
    "gopher.alphabetic_word_ratio": {"max_non_alpha_words_ratio": 0.8},
    "gopher.stop_words": {"min_stop_words": 2},
}
REPETITION_OFF: dict[str, Any] = {
    "dup_line_frac": None,
    "dup_para_frac": None,
    "dup_line_char_frac": None,
    "dup_para_char_frac": None,
    "top_n_grams": (),
    "dup_n_grams": (),
}
REPETITION_RULES: dict[str, dict[str, Any]] = {
    "repetition.duplicate_line_fraction": {"dup_line_frac": 0.3},
    "repetition.duplicate_paragraph_fraction": {"dup_para_frac": 0.3},
    "repetition.duplicate_line_char_fraction": {"dup_line_char_frac": 0.2},
    "repetition.duplicate_paragraph_char_fraction": {"dup_para_char_frac": 0.2},
} | {
    f"repetition.{kind}_{n}gram_char_fraction": {option: ((n, bound),)}
    for kind, option, bounds in (
        ("top", "top_n_grams", repetition.TOP_BOUNDS),
        ("duplicate", "dup_n_grams", repetition.DUPLICATE_BOUNDS),
    )
    for n, bound in bounds.items()
}
C4_OFF = {
    "filter_no_terminal_punct": False,
    "min_num_sentences": -1,
    "filter_lorem_ipsum": False,
    "filter_curly_bracket": False,
}
C4_RULES = {
    "c4.lorem_ipsum": {"filter_lorem_ipsum": True},
    "c4.curly_bracket": {"filter_curly_bracket": True},
    "c4.sentences": {"min_num_sentences": 5},
}
FINEWEB_OFF = {
    "line_punct_thr": 0,
    "short_line_thr": 2,
    "char_duplicates_ratio": 2,
    "new_line_ratio": 1e9,
}
FINEWEB_RULES = {
    "fineweb.line_punct_ratio": {"line_punct_thr": 0.12},
    "fineweb.short_line_ratio": {"short_line_thr": 0.67},
    "fineweb.char_dup_ratio": {"char_duplicates_ratio": 0.01},
    "fineweb.newline_ratio": {"new_line_ratio": 0.3},
}


@dataclass(slots=True)
class Verdicts:
    texts: int = 0
    same: int = 0
    both: int = 0
    either: int = 0

    def add(self, ours: bool, theirs: bool) -> None:
        self.texts += 1
        self.same += ours == theirs
        self.both += not ours and not theirs
        self.either += not ours or not theirs


def read_texts(folder: Path, count: int) -> Iterator[tuple[str, str]]:
    """Up to ``count`` texts of each source, evenly spread over it, each with the source's name."""
    for name, key in SOURCES:
        path = folder / name
        if not path.exists():
            continue
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            texts = [text for line in lines if _english(text := json.loads(line).get(key) or "")]
        step = max(1, len(texts) // count)
        for text in texts[::step][:count]:
            yield path.name.partition(".")[0], text


def _english(text: str) -> bool:
    """Whether a text has letters, at least four fifths of them ASCII."""
    letters = sum(map(str.isalpha, text))
    return letters > 0 and sum(c.isascii() and c.isalpha() for c in text) >= 0.8 * letters


def measure_all(text: str) -> dict[str, Value]:
    """Every signal of all four rule sets, C4's after its lines were removed."""
    view = TextView(text)
    kept = TextView(c4.edit(text, PAPER_PAGE)[0])
    return {
        **gopher.measure(view, "en"),
        **repetition.measure(view),
        **fineweb.measure(view),
        **c4.measure(kept),
    }


def peer_filters() -> dict[str, Any]:
    """Datatrove's filters, by the names of our signals that say the same."""
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    return {
        names: kind(**(off | rule))
        for kind, off, rules in (
            (GopherQualityFilter, GOPHER_OFF, GOPHER_RULES),
            (GopherRepetitionFilter, REPETITION_OFF, REPETITION_RULES),
            (C4QualityFilter, C4_OFF, C4_RULES),
            (FineWebQualityFilter, FINEWEB_OFF, FINEWEB_RULES),
        )
        for names, rule in rules.items()
    }


def compare(texts: list[tuple[str, str]]) -> None:
    from datatrove.data import Document

    filters = peer_filters()
    tallies: defaultdict[tuple[str, str], Verdicts] = defaultdict(Verdicts)
    lines: defaultdict[str, Verdicts] = defaultdict(Verdicts)
    for source, text in texts:
        ours = measure_all(text)
        for names, peer in filters.items():
            document = Document(text=text, id="")
            answer = peer.filter(document)
            theirs = answer if isinstance(answer, bool) else answer[0]
            admitted = all(BOUNDS[name].admits(ours[name]) for name in names.split())
            tallies[names, source].add(admitted, theirs)
            if names == "c4.sentences" and theirs:
                compare_lines(text, document.text, lines[source])

    sources = list(dict.fromkeys(source for source, _ in texts))
    print(f"{'agreement of verdicts':50}" + "".join(f"{source[:24]:>30}" for source in sources))
    for names in filters:
        cells = (_cell(tallies[names, source]) for source in sources)
        print(f"{names.partition(' ')[0]:50}" + "".join(f"{cell:>30}" for cell in cells))
    print(f"{'lines kept by C4':50}" + "".join(f"{_cell(lines[s]):>30}" for s in sources))


def compare_lines(text: str, theirs: str, verdicts: Verdicts) -> None:
    """Line by line: which of the lines of a text both keep (citations aside)."""
    ours_left = _bare_lines(c4.edit(text, PAPER_PAGE)[0])
    theirs_left = _bare_lines(theirs)
    for line in _bare_lines(c4.edit(text, c4.C4Options(0, False, len(text) + 1, False, False))[0]):
        verdicts.add(line in ours_left, line in theirs_left)


def _bare_lines(text: str) -> frozenset[str]:
    return frozenset(bare for line in text.splitlines() if (bare := line.strip()))


def _cell(verdicts: Verdicts) -> str:
    share = verdicts.same / verdicts.texts if verdicts.texts else float("nan")
    return f"{share:.1%} ({verdicts.both} of {verdicts.either})"


def time_both(texts: list[str]) -> None:
    """Milliseconds a text; the two sides take turns, and the best of three rounds counts."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )
    from datatrove.utils.text import split_into_parts, split_into_words

    def peer(build: Callable[..., Any], **off: Any) -> Callable[[str], object]:
        made = build(**off)
        return lambda text: made.filter(Document(text=text, id=""))

    # All rules are asked of every text: no bound is left that would end a filter early.
    never = {"min_doc_words": 1, "max_doc_words": 10**9, "min_avg_word_length": 0.01} | {
        "max_avg_word_length": 1e9, "max_symbol_word_ratio": 1e9, "max_bullet_lines_ratio": 2,
        "max_ellipsis_lines_ratio": 2, "max_non_alpha_words_ratio": 1e-9, "min_stop_words": None,
    }  # fmt: skip
    top, repeated = ((2, 9), (3, 9), (4, 9)), tuple((n, 9) for n in range(5, 11))
    loose = {"dup_line_frac": 2, "dup_para_frac": 2, "dup_line_char_frac": 2}
    rows: tuple[tuple[str, Callable[[Any], object], Callable[[str], object]], ...] = (
        ("words", _split, split_into_words),
        ("gopher", lambda view: gopher.measure(view, "en"), peer(GopherQualityFilter, **never)),
        (
            "repetition",
            repetition.measure,
            peer(
                GopherRepetitionFilter,
                **loose, dup_para_char_frac=2, top_n_grams=top, dup_n_grams=repeated,
            ),
        ),
        (
            "c4",
            lambda view: c4.measure(TextView(c4.edit(view.text)[0])),
            peer(C4QualityFilter, filter_no_terminal_punct=False, filter_curly_bracket=False),
        ),
        ("fineweb", fineweb.measure, peer(FineWebQualityFilter, **FINEWEB_OFF)),
    )  # fmt: skip
    best: defaultdict[tuple[str, str], float] = defaultdict(lambda: float("inf"))
    for _ in range(3):
        spent: defaultdict[tuple[str, str], float] = defaultdict(float)
        for text in texts:
            view = TextView(text)
            split_into_parts.cache_clear()
            for name, ours, theirs in rows:
                begin = time.perf_counter()
                ours(view)
                middle = time.perf_counter()
                theirs(text)
                spent[name, "ours"] += middle - begin
                spent[name, "theirs"] += time.perf_counter() - middle
        for key, seconds in spent.items():
            best[key] = min(best[key], seconds)

    print(f"\n{'ms a text':12}{'ours':>10}{'datatrove':>12}{'ratio':>8}")
    for name in (*(row[0] for row in rows), "all"):
        one, other = (
            sum(s for (n, who), s in best.items() if who == side and name in (n, "all"))
            for side in ("ours", "theirs")
        )
        scale = 1000 / len(texts)
        print(f"{name:12}{one * scale:10.3f}{other * scale:12.2f}{other / one:7.0f}x")


def _split(view: TextView) -> None:
    _ = view.word_counts, view.vocabulary_lengths, view.is_plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=os.environ.get("CIDERMILL_DATA"))
    parser.add_argument("--pages", type=int, default=300, help="texts of each source")
    arguments = parser.parse_args()
    texts = list(read_texts(Path(arguments.data), arguments.pages)) if arguments.data else []
    if not texts:
        print("skipped: no texts of pages; give their folder by --data or CIDERMILL_DATA")
        return
    try:
        import datatrove  # noqa: F401
    except ImportError:
        print("skipped: datatrove is not installed (pip install datatrove nltk spacy regex)")
        return
    compare(texts)
    pages = [text for _, text in texts if 4000 <= len(text) <= 6000]
    if pages:
        print(f"\n{len(pages)} texts of 4 to 6 thousand characters:")
        time_both(pages)


if __name__ == "__main__":
    main()
