"""Near-duplicates found, and the time signatures take, beside datasketch's MinHashLSH.

    python benchmarks/dedup.py --data FOLDER      (or the environment variable CIDERMILL_DATA)

FOLDER holds ``dedup/pep_revisions.jsonl.gz`` and ``dedup/minhash_articles_1000.jsonl.gz`` with the
fields ``id`` and ``text``, and ``minhash_articles_1000.truth_pairs.json`` with pairs of ids. Truth
is the exact Jaccard similarity of the sets of 5-word shingles, for all pairs of documents. Both
systems get 112 hash functions as 14 bands of 8, and are scored on candidates (pairs that share a
band) and on verified pairs (candidates whose estimated similarity is above the bound).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from datasketch import MinHash, MinHashLSH
from scipy.sparse import csr_array

from filters.dedup.bands import band_hashes, pack, star_edges
from filters.dedup.components import components
from filters.dedup.leaders import leaders, member_dtype
from filters.dedup.normalize import find_words
from filters.dedup.signatures import SignatureParams, shingle_set, signature

PARAMS = SignatureParams()
BOUND = 0.75
Pairs = set[tuple[int, int]]


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a compressed JSONL file."""
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


def exact_similarities(texts: list[str]) -> np.ndarray:
    """The Jaccard similarity of all pairs, from their shingle sets."""
    sets = [shingle_set(text, PARAMS) for text in texts]
    _, columns = np.unique(np.concatenate(sets), return_inverse=True)
    rows = np.repeat(np.arange(len(sets)), [len(s) for s in sets])
    table = csr_array((np.ones(len(rows), np.int32), (rows, columns)))
    common = (table @ table.T).toarray()
    sizes = common.diagonal()
    return common / np.maximum(1, sizes[:, None] + sizes[None, :] - common)


def buckets_to_pairs(buckets: dict[Any, list[int]]) -> Pairs:
    """All pairs of documents that share a bucket."""
    return {pair for members in buckets.values() for pair in combinations(sorted(members), 2)}


def our_pairs(texts: list[str]) -> tuple[Pairs, Pairs, float]:
    """Candidates, verified pairs, and seconds for signatures."""
    started = time.perf_counter()
    signatures = [signature(text, PARAMS) for text in texts]
    seconds = time.perf_counter() - started
    buckets: dict[int, list[int]] = {}
    for number, mark in enumerate(signatures):
        if mark is not None:
            for value in band_hashes(mark, PARAMS.bands, PARAMS.rows).tolist():
                buckets.setdefault(value, []).append(number)
    found = buckets_to_pairs(buckets)
    verified = {(a, b) for a, b in found if np.mean(signatures[a] == signatures[b]) > BOUND}
    return found, verified, seconds


def datasketch_pairs(texts: list[str]) -> tuple[Pairs, Pairs, float]:
    """The same by datasketch on the same words, which are found before the clock starts."""
    words = [[w.text(n, 1) for n in range(len(w))] for w in map(folded_words, texts)]
    started = time.perf_counter()
    sketches = []
    for row in words:
        sketch = MinHash(PARAMS.permutations)
        sketch.update_batch([" ".join(row[n : n + 5]).encode() for n in range(len(row) - 4)])
        sketches.append(sketch)
    seconds = time.perf_counter() - started
    lsh = MinHashLSH(num_perm=PARAMS.permutations, params=(PARAMS.bands, PARAMS.rows))
    for number, sketch in enumerate(sketches):
        lsh.insert(number, sketch)
    found = {
        (min(number, other), max(number, other))
        for number, sketch in enumerate(sketches)
        for other in lsh.query(sketch)
        if other != number
    }
    return found, {(a, b) for a, b in found if sketches[a].jaccard(sketches[b]) > BOUND}, seconds


def folded_words(text: str) -> Any:
    """The words that signatures are made of."""
    return find_words(text, fold_digits=True)


def kept_after_leaders(texts: list[str]) -> tuple[int, list[tuple[int, int]]]:
    """How many documents are kept, and (removed, kept instead) for the others."""
    marks = {n: mark for n, text in enumerate(texts) if (mark := signature(text)) is not None}
    numbers = np.array(list(marks), dtype=np.uint64)
    hashes = band_hashes(np.stack(list(marks.values())), PARAMS.bands, PARAMS.rows)
    grouped = components([star_edges([pack(hashes, numbers)])])
    members = np.zeros(len(grouped), member_dtype(PARAMS.permutations))
    members["component"], members["ref"] = grouped["component"], grouped["ref"]
    members["length"] = [len(texts[n]) for n in grouped["ref"].tolist()]
    members["id"] = [n.to_bytes(16, "big") for n in grouped["ref"].tolist()]
    members["signature"] = [marks[n] for n in grouped["ref"].tolist()]
    found = leaders(members, BOUND)
    pairs = list(zip(found["ref"].tolist(), found["leader_ref"].tolist(), strict=True))
    return len(texts) - len(found), pairs


def score(found: Pairs, truth: Pairs) -> str:
    """Precision and recall of pairs."""
    right = len(found & truth)
    precision = right / len(found) if found else 1.0
    recall = right / len(truth) if truth else 1.0
    return f"{len(found):7d} pairs  precision {precision:.3f}  recall {recall:.3f}"


def measure(name: str, rows: list[dict[str, Any]], known: list[list[str]]) -> None:
    """Print the scores on one set of documents."""
    texts = [row["text"] for row in rows]
    similarities = exact_similarities(texts)
    truth = {
        (int(a), int(b)) for a, b in zip(*np.nonzero(similarities > BOUND), strict=True) if a < b
    }
    words = sum(len(folded_words(text)) for text in texts) / len(texts)
    print(
        f"\n{name}: {len(texts)} documents of {words:.0f} words, {len(truth)} pairs above {BOUND}"
    )
    seconds = {}
    systems: dict[str, Callable[[list[str]], tuple[Pairs, Pairs, float]]] = {
        "cidermill": our_pairs,
        "datasketch": datasketch_pairs,
    }
    place = {row["id"]: number for number, row in enumerate(rows)}
    listed = {tuple(sorted((place[a], place[b]))) for a, b in known}
    for system, find in systems.items():
        candidates, verified, seconds[system] = find(texts)
        print(f"  {system:10s} candidates {score(candidates, truth)}")
        print(f"  {system:10s} verified   {score(verified, truth)}")
        if listed:
            print(f"  {system:10s} of {len(listed)} listed pairs: {len(listed & candidates)}")
    each = {system: value / len(texts) * 1e6 for system, value in seconds.items()}
    print(
        f"  signature: cidermill {each['cidermill']:.0f} us a document from text, datasketch "
        f"{each['datasketch']:.0f} us from words ({each['datasketch'] / each['cidermill']:.1f}x)"
    )
    kept, pairs = kept_after_leaders(texts)
    true = np.array([similarities[a, b] for a, b in pairs] or [0.0])
    removed = {a for a, _ in pairs}
    left = sum(a not in removed and b not in removed for a, b in truth)
    print(
        f"  leaders: {kept} kept, {len(pairs)} removed; of these {(true > BOUND).mean():.3f} truly "
        f"above {BOUND} with what is kept, the least {true.min():.2f}; pairs left {left}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("CIDERMILL_DATA"))
    data = parser.parse_args().data
    folder = Path(data or ".") / "dedup"
    if not data or not folder.is_dir():
        print("skipped: give a folder with dedup/ by --data or CIDERMILL_DATA", file=sys.stderr)
        return 0
    measure("pep_revisions", read(folder / "pep_revisions.jsonl.gz"), [])
    articles = folder / "minhash_articles_1000.jsonl.gz"
    known = json.loads((folder / "minhash_articles_1000.truth_pairs.json").read_text("utf-8"))
    measure("minhash_articles_1000", read(articles), known)
    return 0


if __name__ == "__main__":
    sys.exit(main())
