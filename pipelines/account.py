"""The account of a run: what came in, what left where and why, per input and in total.

Accounts are plain data that add up: the account of a run is the sum of those of its inputs. They
hold nothing that depends on time, on the order of work, or on the number of workers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from filters.document import DeadLetter, Decision, Document, Edit, Value

EXAMPLES = 5
TOP_DOMAINS = 1000
"""Domains kept in the account of one input, by number of documents."""


OPEN_WORDS = frozenset({"url.host", "url.domain"})
"""Signals with a value of their own for nearly every document; they make no histogram."""


class ConservationError(RuntimeError):
    """Documents were lost or invented: read is not kept + rejected + dead."""


@dataclass
class Account:
    """Counts of one input, or the sum over several.

    ``stages`` maps each stage to ``{"in", "dropped", "dead", "out"}``; ``rules`` maps each rule to
    ``{"removed", "broken"}``: documents it removed, and all that broke it, removed or not.
    ``signals`` and ``kept_signals`` are histograms over values (see ``histogram_key``).
    """

    counts: Counter[str] = field(default_factory=Counter)
    stages: dict[str, Counter[str]] = field(default_factory=dict)
    rules: dict[str, Counter[str]] = field(default_factory=dict)
    edits: dict[str, Counter[str]] = field(default_factory=dict)
    dead: Counter[str] = field(default_factory=Counter)
    languages: dict[str, Counter[str]] = field(default_factory=dict)
    domains: dict[str, Counter[str]] = field(default_factory=dict)
    sources: dict[str, Counter[str]] = field(default_factory=dict)
    signals: dict[str, Counter[str]] = field(default_factory=dict)
    kept_signals: dict[str, Counter[str]] = field(default_factory=dict)
    clusters: Counter[str] = field(default_factory=Counter)
    benchmarks: dict[str, Counter[str]] = field(default_factory=dict)
    examples: dict[str, list[list[str]]] = field(default_factory=dict)

    def document(
        self,
        document: Document,
        decisions: Sequence[Decision],
        removed: Decision | None,
        edits: Iterable[Edit],
        letter: DeadLetter | None,
        stages: Sequence[str],
    ) -> None:
        """Add one document with its end: kept, removed by a decision, or a dead letter."""
        end = "dead" if letter else "rejected" if removed else "kept"
        self.counts["read"] += 1
        self.counts[end] += 1
        self.counts["characters read"] += len(document.text)
        self.counts[f"characters {end}"] += len(document.text)
        left_at = letter.stage if letter else removed.stage if removed else None
        self._pass_stages(stages, left_at, "dead" if letter else "dropped")
        for table, name in (
            (self.languages, document.language or "und"),
            (self.domains, str(document.signals.get("url.domain") or "")),
            (self.sources, document.source),
        ):
            table.setdefault(name, Counter()).update({"read": 1, end: 1})
        if letter:
            self.dead[f"{letter.stage}: {letter.error}"] += 1
            self._example(f"dead: {letter.stage}: {letter.error}", document, letter.message, "")
        else:
            self._decisions(document, decisions, removed)
        for edit in edits:
            row = self.edits.setdefault(edit.reason, Counter())
            row.update({"spans": 1, "characters": edit.end - edit.start})
        for name, value in document.signals.items():
            if name in OPEN_WORDS:
                continue
            self._histogram(self.signals, name, value)
            if end == "kept":
                self._histogram(self.kept_signals, name, value)

    def _pass_stages(self, stages: Sequence[str], left_at: str | None, how: str) -> None:
        for stage in stages:
            row = self.stages.setdefault(stage, Counter())
            row["in"] += 1
            if stage == left_at:
                row[how] += 1
                return
            row["out"] += 1

    def _decisions(
        self, document: Document, decisions: Sequence[Decision], removed: Decision | None
    ) -> None:
        for decision in decisions:
            row = self.rules.setdefault(decision.rule, Counter())
            row["broken"] += 1
            if decision is removed:
                row["removed"] += 1
                value = "" if decision.value is None else f"{decision.value}"
                self._example(decision.rule, document, value, decision.evidence)

    def _example(self, name: str, document: Document, value: str, evidence: str) -> None:
        found = self.examples.setdefault(name, [])
        found.append([document.id, document.url, value, evidence])
        found.sort()
        del found[EXAMPLES:]

    def _histogram(self, table: dict[str, Counter[str]], name: str, value: Value) -> None:
        key = histogram_key(value)
        if key is not None:
            table.setdefault(name, Counter())[key] += 1

    def add(self, other: Account) -> None:
        """Add another account to this one."""
        for name in _FLAT:
            getattr(self, name).update(getattr(other, name))
        for name in _NESTED:
            mine = getattr(self, name)
            for key, row in getattr(other, name).items():
                mine.setdefault(key, Counter()).update(row)
        for name, rows in other.examples.items():
            merged = sorted(self.examples.get(name, []) + rows)
            self.examples[name] = merged[:EXAMPLES]

    def trim(self) -> None:
        """Keep the domains with the most documents; an account must stay small."""
        top = sorted(self.domains.items(), key=lambda row: (-row[1]["read"], row[0]))
        self.domains = dict(top[:TOP_DOMAINS])

    def check(self, stages: Sequence[str], where: str) -> None:
        """Hold the account to the law of conservation, in total and stage by stage.

        Raises:
          ConservationError: read is not kept + rejected + dead, or a stage gives out another
            number than the next takes in.
        """
        counts = self.counts
        self.check_total(where)
        expected = counts["read"]
        for stage in stages:
            row = self.stages.get(stage, Counter())
            if row["in"] != expected or row["in"] != row["out"] + row["dropped"] + row["dead"]:
                raise ConservationError(
                    f"{where}: stage {stage} takes in {row['in']} of {expected} and accounts for "
                    f"{row['out']} + {row['dropped']} + {row['dead']}"
                )
            expected = row["out"]
        if expected != counts["kept"]:
            raise ConservationError(
                f"{where}: the last stage gives out {expected}, but {counts['kept']} are kept"
            )

    def check_total(self, where: str) -> None:
        """The law in total, for a sum over sources with different stages."""
        counts = self.counts
        if counts["read"] != counts["kept"] + counts["rejected"] + counts["dead"]:
            raise ConservationError(
                f"{where}: read {counts['read']} is not kept {counts['kept']} + rejected "
                f"{counts['rejected']} + dead {counts['dead']}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        plain: dict[str, Any] = {name: dict(getattr(self, name)) for name in _FLAT}
        for name in _NESTED:
            plain[name] = {key: dict(row) for key, row in getattr(self, name).items()}
        plain["examples"] = self.examples
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Account:
        """The inverse of ``to_dict``."""
        account = cls(examples={k: [list(r) for r in v] for k, v in plain["examples"].items()})
        for name in _FLAT:
            getattr(account, name).update(plain[name])
        for name in _NESTED:
            for key, row in plain[name].items():
                getattr(account, name)[key] = Counter(row)
        return account


_FLAT = ("counts", "dead", "clusters")
_NESTED = (
    "stages",
    "rules",
    "edits",
    "languages",
    "domains",
    "sources",
    "signals",
    "kept_signals",
    "benchmarks",
)


def histogram_key(value: Value) -> str | None:
    """The bin a value falls in: numbers to two significant digits, words as they are.

    Bins of a relative width fit every signal, whatever its unit, and add up over inputs. Words
    beyond 32 characters are not counted: they are no categories.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return value if len(value) <= 32 else None
    number = float(value)
    if math.isnan(number):
        return "nan"
    if number == 0 or math.isinf(number):
        return f"{number:g}"
    return f"{float(f'{number:.1e}'):.12g}"
