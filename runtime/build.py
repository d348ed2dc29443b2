"""Compiles the kernels with whatever C compiler there is: when a wheel is made, or at first use.

The library's name holds a digest of its sources and of the command, so that an old one is never
taken for a new one. It is loaded with ctypes, so that it fits any version of Python.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "kernels"
FLAGS = (
    "-O3", "-std=c99", "-fPIC", "-shared", "-pthread",
    # Products and sums are rounded one by one, so that every processor has the same numbers.
    "-ffp-contract=off", "-fno-math-errno",
)  # fmt: skip
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g", "-O1")
CACHE_VARIABLE = "CIDERMILL_CACHE"
SANITIZE_VARIABLE = "CIDERMILL_SANITIZE"
SECONDS = 600


class NoLibrary(RuntimeError):
    """The kernels cannot be had as machine code; the message says why."""


def find_compiler() -> list[str]:
    """The C compiler: ``CC`` of the environment, else what this machine has.

    Raises:
      NoLibrary: there is none.
    """
    given = os.environ.get("CC", "")
    try:
        named = shlex.split(given)
    except ValueError:
        raise NoLibrary(f"CC is {given[:100]!r}: a quote in it is not closed") from None
    if named:
        return named
    for name in ("cc", "gcc", "clang"):
        found = shutil.which(name)
        if found:
            return [found]
    raise NoLibrary("there is no C compiler (cc, gcc or clang)")


def name_of(flags: Sequence[str] = FLAGS) -> str:
    """The file name of the library of these sources."""
    seen = hashlib.sha256("\0".join((*flags, platform.machine())).encode())
    for path in sorted(SOURCES.glob("*.[ch]")):
        seen.update(path.name.encode() + b"\0" + path.read_bytes())
    return f"libcider-{seen.hexdigest()[:16]}.so"


def compile_to(folder: Path, flags: Sequence[str] = FLAGS) -> Path:
    """Compile into a folder unless it is there; the library's path.

    Raises:
      NoLibrary: there is no compiler, or it failed; the message holds its first line.
    """
    target = folder / name_of(flags)
    if target.exists():
        return target
    compiler = find_compiler()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    print("cidermill: compiling the kernels, once; this takes some seconds", file=sys.stderr)
    temporary = folder / f"{target.name}.{os.getpid()}.writing"
    sources = [str(path) for path in sorted(SOURCES.glob("*.c"))]
    command = [*compiler, *flags, "-o", str(temporary), *sources, "-lm"]
    # What is preloaded for this process, as the sanitizers' library, is not for the compiler.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=SECONDS, env=environment
        )
        os.replace(temporary, target)
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().split("\n")[0] or f"exit status {error.returncode}"
        raise NoLibrary(f"{compiler[0]} failed: {said}") from None
    except subprocess.TimeoutExpired:
        raise NoLibrary(f"{compiler[0]} failed: no end after {SECONDS} seconds") from None
    except OSError as error:
        raise NoLibrary(f"{compiler[0]} failed: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return target


def library() -> Path:
    """The library: that of the installed package, or one compiled into the user's cache.

    With ``CIDERMILL_SANITIZE=1`` in the environment one that checks every address and every sum;
    the process must have been started with the compiler's libasan preloaded.

    Raises:
      NoLibrary: there is none and none can be made.
    """
    flags = (*FLAGS, *SANITIZE) if os.environ.get(SANITIZE_VARIABLE) == "1" else FLAGS
    shipped = SOURCES / name_of(flags)
    if shipped.exists():
        return shipped
    try:
        found = compile_to(cache_folder(), flags)
        if found.stat().st_uid != os.getuid():
            raise NoLibrary(f"{found} belongs to another user; name a cache with {CACHE_VARIABLE}")
        return found
    except OSError as error:
        raise NoLibrary(f"{cache_folder()} cannot be written: {error}") from None


def remade(broken: Path) -> Path:
    """The library once more, where the one in the user's cache cannot be loaded.

    Raises:
      NoLibrary: it is that of the installed package, or none can be made.
    """
    if broken.parent != cache_folder():
        raise NoLibrary(f"{broken} is damaged; install the package again")
    broken.unlink(missing_ok=True)
    return library()


def cache_folder() -> Path:
    """Where compiled kernels are kept: below ``CIDERMILL_CACHE``, or the user's own cache."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named) / "kernels"
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "cidermill" / "kernels"
