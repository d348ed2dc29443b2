"""Feeds damaged and hostile models and adapters to their readers, and runs what they take.

    python benchmarks/fuzz_cider.py --minutes 30

Three kinds of damage to a model: bytes anywhere; fields of the header, with the header's digest
made right; bytes of sections, with all digests made right, so that weights of any value are run
through the kernels. Those to adapters: see ``fuzz_adapters.py``. A file is refused with
``CiderFileError`` or ``AdapterError``, or its model computes, the same bits with one thread and
with two, or says that its numbers overflow. Anything else is a find: it is stored, and the exit
code is 1. A crash of the process is one as well: with ``--keep`` what was tried last is left in
that folder. Each seed makes the same files.
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

from fuzz_adapters import ADAPTER_DAMAGE, Adapters  # noqa: E402
from fuzz_compute import THREADS, same  # noqa: E402
from fuzz_damage import change_values, damage_bytes  # noqa: E402
from models_here import a_model  # noqa: E402

from runtime.cache import BITS  # noqa: E402
from runtime.file import MAGIC, PREAMBLE, VERSION, CiderFileError, read  # noqa: E402
from runtime.model import Model  # noqa: E402


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


def damage_header(content: bytes, chance: random.Random) -> bytes:
    """Change, remove, add or exchange values in the header."""
    header, sections = split(content)
    change_values(header, chance)
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


MODEL_DAMAGE = (damage_bytes, damage_header, damage_sections)


def write_model(folder: Path, kind: int, content: bytes, chance: random.Random) -> Path:
    """Write a damaged model; its path."""
    path = folder / "tried.cider"
    path.unlink(missing_ok=True)  # what is mapped still must not change
    path.write_bytes(MODEL_DAMAGE[kind](content, chance))
    return path


def attempt(path: Path) -> str:
    """``refused``, ``ran``, or ``overflowed``; anything else is raised."""
    try:
        contents = read(str(path))
    except CiderFileError:
        return "refused"
    outcomes = {
        same([Model(contents, threads=n, context=64, cache_bits=bits) for n in THREADS])
        for bits in BITS
    }
    return "overflowed" if "overflowed" in outcomes else "ran"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", default="", metavar="FOLDER", help="for what is found")
    arguments = parser.parse_args()
    content = Path(a_model()).read_bytes()
    kinds = [damage.__name__ for damage in (*MODEL_DAMAGE, *ADAPTER_DAMAGE)]
    counts: dict[str, int] = {}
    finds, number = 0, 0
    end = time.monotonic() + arguments.minutes * 60
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        adapters = Adapters(folder)
        while time.monotonic() < end:
            chance = random.Random(arguments.seed * 1_000_000_007 + number)
            kind = number % len(kinds)
            try:
                if kind < len(MODEL_DAMAGE):
                    path = write_model(folder, kind, content, chance)
                    outcome = attempt(path)
                else:
                    path = adapters.write(kind - len(MODEL_DAMAGE), chance)
                    outcome = adapters.attempt(path)
            except Exception as error:
                finds += 1
                outcome = f"FOUND {type(error).__name__}"
                path.rename(folder / f"found-{arguments.seed}-{number}{path.suffix}")
                print(f"{kinds[kind]} {number}: {type(error).__name__}: {error}")
            key = f"{kinds[kind]}: {outcome}"
            counts[key] = counts.get(key, 0) + 1
            number += 1
    for key in sorted(counts):
        print(f"{key:40}{counts[key]:>9}")
    print(f"{number} files, {finds} finds")
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main())
