"""Feeds damaged and hostile model files to the reader, and runs what it takes.

    python benchmarks/fuzz_cider.py --minutes 30

Three kinds of damage: bytes anywhere; fields of the header, with the header's digest made right;
bytes of sections, with all digests made right, so that weights of any value are run through the
kernels. A file is refused with ``CiderFileError``, or its model computes, or says that its numbers
overflow. Anything else is a find:
it is stored, and the exit code is 1. A crash of the process is one as well: with ``--keep`` the
last file that was tried is left in that folder. Each seed makes the same files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402
from models_here import a_model  # noqa: E402

from runtime.cache import BITS  # noqa: E402
from runtime.file import MAGIC, PREAMBLE, VERSION, CiderFileError, read  # noqa: E402
from runtime.model import Model  # noqa: E402
from tokenizer.overlap import Scored  # noqa: E402

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 15, 16, 31, 64, 2**31, 2**32, 2**48, 2**63, 2**64, 10**40,
    -(2**63), 0.0, 1e308, -1e-320, "", "q", "layers.0.q", "palette4", "int8", [], {}, [[]],
    [16, 96], "0" * 64,
)  # fmt: skip


def split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the sections of a file."""
    length = PREAMBLE.unpack(content[: PREAMBLE.size])[3]
    header = json.loads(content[PREAMBLE.size : PREAMBLE.size + length])
    return header, content[-(-(PREAMBLE.size + length) // 64) * 64 :]


def join(header: Any, sections: bytes) -> bytes:
    """A file whose header has the right digest."""
    content = json.dumps(header).encode()
    start = -(-(PREAMBLE.size + len(content)) // 64) * 64
    digest = hashlib.sha256(content).digest()
    first = PREAMBLE.pack(MAGIC, VERSION, 0, len(content), start + len(sections), digest)
    return (first + content).ljust(start, b"\0") + sections


def damage_bytes(content: bytes, chance: random.Random) -> bytes:
    """Change, cut, lengthen or repeat bytes anywhere."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        place = chance.randrange(chance.choice((64, 4096, len(changed))))
        changed[min(place, len(changed) - 1)] = chance.randrange(256)
    kind = chance.randrange(6)
    if kind == 0:
        return bytes(changed[: chance.randrange(len(changed))])
    if kind == 1:
        return bytes(changed) + chance.randbytes(chance.randrange(1, 200))
    return bytes(changed)


def damage_header(content: bytes, chance: random.Random) -> bytes:
    """Change, remove, add or exchange values in the header."""
    header, sections = split(content)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at: Any = header
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = chance.choice(keys)
            if isinstance(at[key], dict | list) and at[key] and chance.random() < 0.85:
                at = at[key]
                continue
            kind = chance.randrange(4)
            if kind == 0:
                del at[key]
            elif kind == 1 and isinstance(at[key], int) and not isinstance(at[key], bool):
                at[key] += chance.choice((-64, -16, -1, 1, 16, 32, 64))
            elif kind == 2:
                other = chance.choice(keys)
                at[key], at[other] = at[other], at[key]
            else:
                at[key] = chance.choice(VALUES)
            break
    return join(header, sections)


def damage_sections(content: bytes, chance: random.Random) -> bytes:
    """Change bytes of sections, and make their digests right."""
    header, sections = split(content)
    changed = bytearray(sections)
    entries = [header["tokenizer"], *header["tensors"]]
    for entry in chance.sample(entries, chance.choice((1, 2, len(entries)))):
        start, size = entry["offset"], entry["size"]
        for _ in range(chance.choice((1, 4, 64))):
            place = start + chance.randrange(min(size, chance.choice((64, 512, size))))
            changed[place] = chance.choice((0, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        own = bytes(changed[start : start + size])
        entry["sha256"] = hashlib.sha256(own).hexdigest()
    return join(header, bytes(changed))


DAMAGE = (damage_bytes, damage_header, damage_sections)


def attempt(path: Path) -> str:
    """``refused``, ``ran``, or ``overflowed``; anything else is raised."""
    try:
        contents = read(str(path))
    except CiderFileError:
        return "refused"
    outcomes = {_compute(Model(contents, threads=1, context=64, cache_bits=bits)) for bits in BITS}
    return "overflowed" if "overflowed" in outcomes else "ran"


def _compute(model: Model) -> str:
    """All that a model can be asked for; numbers that are not finite must be told."""
    ids = [number % model.shape.vocabulary for number in (70, 1999, 3, 512)]
    ran = "ran"
    for compute in (
        lambda: model.logits(ids),
        lambda: model.score_ids([ids], window=4),
        lambda: model.embeddings(["The tide"]),
        lambda: model.complete(["The tide", "is"], tokens=4, stop=["e", "high"]),
    ):
        try:
            numbers = compute()
        except CiderFileError:
            ran = "overflowed"
            continue
        arrays = [own.nats if isinstance(own, Scored) else own for own in numbers]
        if any(isinstance(own, np.ndarray) and not np.isfinite(own).all() for own in arrays):
            raise ArithmeticError("numbers that are not finite")
    return ran


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", default="", metavar="FOLDER", help="for what is found")
    arguments = parser.parse_args()
    content = Path(a_model()).read_bytes()
    counts: dict[str, int] = {}
    finds, number = 0, 0
    end = time.monotonic() + arguments.minutes * 60
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        while time.monotonic() < end:
            chance = random.Random(arguments.seed * 1_000_000_007 + number)
            damage = DAMAGE[number % len(DAMAGE)]
            path = folder / "tried.cider"
            path.unlink(missing_ok=True)  # what is mapped still must not change
            path.write_bytes(damage(content, chance))
            try:
                outcome = attempt(path)
            except Exception as error:
                finds += 1
                outcome = f"FOUND {type(error).__name__}"
                path.rename(folder / f"found-{arguments.seed}-{number}.cider")
                print(f"{damage.__name__} {number}: {type(error).__name__}: {error}")
            key = f"{damage.__name__}: {outcome}"
            counts[key] = counts.get(key, 0) + 1
            number += 1
    for key in sorted(counts):
        print(f"{key:40}{counts[key]:>9}")
    print(f"{number} files, {finds} finds")
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main())
