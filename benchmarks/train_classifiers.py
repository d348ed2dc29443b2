"""Train the safety and quality classifiers that ship with the package.

    python benchmarks/train_classifiers.py --data DIR [safety|quality ...]            # compare
    python benchmarks/train_classifiers.py --data DIR [safety|quality ...] --write    # replace

Without ``--write`` nothing in the checkout changes: the retrained bytes are held against the
shipped ones, and the exit status is 1 where they differ. Training is deterministic: one thread, a
fixed seed, sorted rows. Same data and same build of fastText, same bytes. (The source package of
fastText compiles for the processor at hand, so another machine may round otherwise.)
Only rows whose licence allows a release are used; the cards in filters/models say which.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import hashlib
import html
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fasttext

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from filters.model_text import tokens

MODELS = Path(__file__).resolve().parent.parent / "filters" / "models"
WINDOW = {"safety": 50, "quality": 200}


def rows(path: Path) -> Iterator[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        for line in handle:
            yield json.loads(line)


def cut(text: str, size: int) -> Iterator[str]:
    words = tokens(text)
    for start in range(0, len(words), size):
        part = words[start : start + size]
        if len(part) >= 3:
            yield " ".join(part)


COMMENTS = ("profanity_check_clean_data", "paradetox_en", "davidson_hate_offensive")
MANUALS = frozenset(
    """
    scipy-lectures/scipy-lectures.github.com apple/coremltools@gh-pages iipc/openwayback@gh-pages
    archivesunleashed/aut@gh-pages openpreserve/jhove@gh-pages
    """.split()
)
"""Manuals outside Debian whose one licence is known. Others of the folder are left out: mirrored
encyclopedia pages, books licensed chapter by chapter, specifications that forbid changes."""
NOT_MANUALS = frozenset({"deb:anarchism", "deb:jargon"})
DEBIAN = "Debian main (DFSG-free): "


def hashed_out(text: str) -> bool:
    """A tenth of the texts, chosen by a hash."""
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=2).digest()[0] < 26


def key(text: str) -> str:
    """What is the same in copies of a comment: entities and spacing differ between data sets."""
    return " ".join(tokens(html.unescape(text)))


def held_out(name: str, row: dict) -> bool:
    """Whether a comment is in the test part: its set's own, or a tenth where a set has none.

    ParaDetox splits by pair, so a comment and its harmless paraphrase are on the same side.
    """
    if name == "profanity_check_clean_data":
        return hashed_out(key(row["text"]))
    return row["split"] == "test"


@functools.cache
def held_out_keys(data: Path) -> frozenset[str]:
    """Keys of every comment held out of any set: half of Davidson's tweets are in clean_data too,
    and a copy in training would make the test meaningless."""
    return frozenset(
        key(row["text"])
        for name in COMMENTS
        for row in rows(data / "safety" / f"{name}.jsonl.gz")
        if held_out(name, row)
    )


def comments(data: Path, names: tuple[str, ...] = COMMENTS) -> Iterator[dict]:
    """Comments to train on: no test row, and no copy of one."""
    for name in names:
        for row in rows(data / "safety" / f"{name}.jsonl.gz"):
            if key(row["text"]) not in held_out_keys(data):
                yield row


def safety_lines(data: Path) -> Iterator[str]:
    """Comments, and clean prose as examples of what is fine."""
    for row in comments(data):
        label = "toxic" if str(row["label"]) == "1" else "fine"
        for part in cut(row["text"], WINDOW["safety"]):
            yield f"__label__{label} {part}"
    for text in clean_texts(data):
        for number, part in enumerate(cut(text, WINDOW["safety"])):
            if number % 12 == 0:
                yield f"__label__fine {part}"


def may_be_released(name: str, row: dict) -> bool:
    """Whether a model trained on this text may ship: PEPs, speeches and novels in the public
    domain, and manuals under a named free licence."""
    if name != "free_docs_main_text":
        return "public domain" in row["licence"]
    if row["source"].startswith("deb:"):
        named = row["licence"].removeprefix(DEBIAN).strip()
        return named != "" and row["source"] not in NOT_MANUALS
    return row["source"] in MANUALS


def clean_texts(data: Path) -> Iterator[str]:
    """English manuals, PEPs, speeches and novels whose licence allows it, less a tenth."""
    for name in ("peps", "state_of_the_union", "novels_en", "free_docs_main_text"):
        for row in rows(data / "text" / f"{name}.jsonl.gz"):
            allowed = row.get("lang") == "en" and may_be_released(name, row)
            if allowed and not hashed_out(row["id"]):
                yield row["text"]


def quality_lines(data: Path) -> Iterator[str]:
    """Clean prose against debris that is made up here or shuffled out of the same prose."""
    chance = random.Random(20)
    good = []
    for text in clean_texts(data):
        parts = list(cut(text, WINDOW["quality"]))
        step = max(1, len(parts) // 40)
        good += [part for part in parts[::step] if len(part.split()) >= 40]
    # Harmless comments widen what good prose sounds like: people who speak to each other.
    for row in comments(data, ("profanity_check_clean_data",)):
        if str(row["label"]) == "0":
            parts = cut(row["text"], WINDOW["quality"])
            good += [part for part in parts if len(part.split()) >= 40]
    good.sort()
    chance.shuffle(good)
    for part in good:
        yield f"__label__good {part}"
    for part in good[::3]:
        yield f"__label__bad {spoil(part, chance)}"
    for _ in range(len(good)):
        page = " ".join(debris(chance) for _ in range(chance.randint(4, 12)))
        words = tokens(page)[: WINDOW["quality"]]
        yield f"__label__bad {' '.join(words)}"


def spoil(part: str, chance: random.Random) -> str:
    """Prose turned into what extraction of a list or a scrambled page gives."""
    words = part.split()
    kind = chance.randrange(3)
    if kind == 0:
        chance.shuffle(words)
        return " ".join(words)
    if kind == 1:
        starts = [chance.randrange(max(1, len(words) - 4)) for _ in range(30)]
        return " | ".join(" ".join(words[s : s + chance.randint(1, 4)]) for s in starts)
    piece = words[: chance.randint(3, 9)]
    return " ".join(piece * (120 // len(piece)))


def words_of(text: str) -> list[str]:
    """The words of a list, one after another."""
    return text.split()


THINGS = words_of(
    """
shoes watches handbags sofas laptops phones tyres mattresses curtains lamps jackets drills
printers cameras bicycles helmets perfumes rings necklaces toys tents carpets boilers windows
gutters roofs kitchens fences pumps vitamins supplements insurance loans credit mortgages
hosting domains backlinks followers essays templates fonts ringtones wallpapers coupons vouchers
tickets flights hotels villas cars vans trucks parts filters batteries chargers cables cases
covers
"""
)
PLACES = words_of(
    """
london leeds boston dallas denver austin miami chicago sydney perth dublin toronto mumbai delhi
dubai berlin paris madrid rome vienna oslo houston phoenix seattle tampa orlando atlanta bristol
cardiff glasgow manchester liverpool birmingham nashville memphis portland
"""
)
PRAISE = words_of(
    """
best cheap top quality affordable discount premium trusted leading professional local original
genuine exclusive new hot amazing number one certified fast free
"""
)
MENU = words_of(
    """
home about us contact login sign up register cart checkout my account wishlist search menu help
faq terms privacy policy cookies sitemap blog news shop categories brands sale new arrivals
shipping returns size guide gift cards careers press newsletter facebook twitter instagram
pinterest youtube rss share print email next previous page first last view all read more show
more load more sort by price low to high filter apply clear reset in stock out of stock add to
basket
"""
)
LEGAL = (
    "we use cookies to improve your experience . by continuing you accept our cookie policy .",
    "all rights reserved . copyright 0000 . powered by .",
    "please enable javascript to view this page .",
    "enter your email address and password . forgot your password ? remember me . sign in .",
    "you must be logged in to post a comment . log in or register .",
    "the page you requested could not be found . go back to the home page .",
    "subscribe to our newsletter and get 00 % off your first order !",
    "select your country . select your language . choose your currency .",
    "your cart is empty . continue shopping . free delivery on orders over $ 00 .",
    "posted by admin on 00 / 00 / 0000 . 0 comments . leave a reply . name * email * website .",
    "username password confirm password first name last name phone submit cancel * required field",
    "this topic is locked . you cannot post new topics . you cannot reply in this forum .",
)


def debris(chance: random.Random) -> str:
    """A piece of a shop, login, listing or SEO page."""
    pick = chance.choice
    thing, place = pick(THINGS), pick(PLACES)
    kind = chance.randrange(7)
    if kind == 0:
        return pick(LEGAL)
    if kind == 1:
        return " ".join(pick(MENU) for _ in range(chance.randint(8, 30)))
    if kind == 2:
        prices = (
            f"{pick(PRAISE)} {pick(THINGS)} $ {'0' * chance.randint(1, 3)} . 00 add to cart"
            for _ in range(chance.randint(3, 8))
        )
        return " ".join(prices)
    if kind == 3:
        keys = [f"{pick(PRAISE)} {thing} {place}", f"{thing} near me", f"buy {thing} online"]
        return " , ".join(pick(keys) for _ in range(chance.randint(5, 12)))
    if kind == 4:
        return (
            f"looking for {pick(PRAISE)} {thing} in {place} ? our {thing} are the {pick(PRAISE)} "
            f"{thing} in {place} . call now for {thing} in {place} ! click here for {thing} !"
        )
    if kind == 5:
        return " | ".join(f"{thing} {pick(PLACES)}" for _ in range(chance.randint(6, 20)))
    return " » ".join(pick(THINGS) for _ in range(chance.randint(4, 12)))


SETTINGS = {
    "safety": {"dim": 16, "epoch": 4, "wordNgrams": 2, "minn": 3, "maxn": 5, "bucket": 300_000},
    "quality": {"dim": 16, "epoch": 1, "wordNgrams": 1, "minn": 0, "maxn": 0, "bucket": 0},
}
"""Chosen on held-out comments and OLID's training part (safety), and with the pages of
``benchmarks/classifiers.py`` in view (quality)."""


def train(name: str, data: Path, target: Path) -> None:
    """Train one model and write it to ``target``."""
    lines = sorted({"safety": safety_lines, "quality": quality_lines}[name](data))
    random.Random(7).shuffle(lines)
    path = str(target.with_suffix(".txt"))
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    model = fasttext.train_supervised(
        path, lr=0.1, minCount=3, loss="softmax", thread=1, seed=1, verbose=0, **SETTINGS[name]
    )
    model.quantize(path, cutoff=80_000, retrain=True, thread=1, qnorm=True, verbose=0)
    model.save_model(str(target))
    print(f"{name}: {len(lines)} lines, {target.stat().st_size} bytes")


def ship(name: str, trained: bytes) -> None:
    """Replace the shipped model and its digest."""
    (MODELS / f"{name}.ftz").write_bytes(trained)
    path = MODELS / "digests.json"
    digests = {**json.loads(path.read_text()), name: hashlib.sha256(trained).hexdigest()}
    path.write_text(json.dumps(digests, indent=1, sort_keys=True) + "\n")


def with_zeroed_memory() -> None:
    """Start again with an allocator that hands out zeroed memory for large arrays.

    With one thread fastText 0.9.3 initialises only the first tenth of its input matrix
    (DenseMatrix::uniform); the rest is whatever the memory held, often NaN. Pages fresh from the
    system are zero, on every machine.
    """
    name = "MALLOC_MMAP_THRESHOLD_"
    if name not in os.environ:
        os.environ[name] = "32768"
        os.execv(sys.executable, [sys.executable, *sys.argv])


def main() -> None:
    with_zeroed_memory()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("CIDERMILL_DATA"))
    parser.add_argument("models", nargs="*", default=["safety", "quality"])
    parser.add_argument("--write", action="store_true", help="replace the shipped models")
    arguments = parser.parse_args()
    if not arguments.data or not Path(arguments.data, "safety").is_dir():
        sys.exit("skipped: name the folder of labelled data with --data or CIDERMILL_DATA")
    differs = False
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, f"{name}.ftz")
            train(name, Path(arguments.data), target)
            trained = target.read_bytes()
        same = trained == (MODELS / f"{name}.ftz").read_bytes()
        differs = differs or not same
        print(f"{name}: {'the same bytes as' if same else 'differs from'} the shipped model")
        if arguments.write and not same:
            ship(name, trained)
    if differs and not arguments.write:
        sys.exit(1)


if __name__ == "__main__":
    main()
