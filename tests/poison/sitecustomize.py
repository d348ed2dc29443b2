"""Only for tests: on the path of a run's processes, makes pages of certain URLs take them down.

Python runs this file at its start where its folder is in PYTHONPATH; nothing in the project knows
of it. ``POISON_STAGE`` names the stage in which it strikes.
"""

import ctypes
import os
import re
import resource
import signal

import filters.batch

_apply = filters.batch.apply


def crash() -> None:
    """Crash the interpreter."""
    ctypes.string_at(0)


def hang() -> None:
    """Hang in native code that lets no other Python run."""
    re.match(r"(a+)+$", "a" * 64 + "b")


def memory() -> None:
    """Take all memory that this process may have, then end as the kernel would end it."""
    with open("/proc/self/statm") as facts:
        pages = int(facts.read().split()[0])
    limit = pages * resource.getpagesize() + (256 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    taken = []
    try:
        while True:
            taken.append(bytearray(16 << 20))
    except MemoryError:
        os.kill(os.getpid(), signal.SIGKILL)


POISONS = {"crash": crash, "hang": hang, "memory": memory}


def apply(batch, stage, function, seconds):
    if stage != os.environ.get("POISON_STAGE"):
        return _apply(batch, stage, function, seconds)

    def poisoned(document):
        kind = document.url.rpartition("/poison-")[2]
        if kind in POISONS:
            POISONS[kind]()
        return function(document)

    return _apply(batch, stage, poisoned, seconds)


filters.batch.apply = apply
