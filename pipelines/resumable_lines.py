"""A file of lines of JSON that is seen complete or not at all, and that can be gone on with.

Lines are gathered beside the target in a hidden file, which is named after the digest of all that
they depend on: what was stopped is found again by the same command, and by no other. A line counts
once it is whole. Local files alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import os
import sys
from collections.abc import Iterator
from typing import BinaryIO

from pipelines import files
from pipelines.hold import Interrupted
from pipelines.inputs_error import InputError

DIGITS = 16
"""Of the digest, in the name."""


@contextlib.contextmanager
def resumable_lines(path: str, identity: str) -> Iterator[tuple[int, BinaryIO]]:
    """How many lines there are already, and the file to which the others are appended.

    The target is there once the block has ended. Where it is interrupted, or disk or memory are
    full, the lines stay for the next time; after another error, which would come again, they go.

    Args:
      identity: of all that the lines depend on.

    Raises:
      InputError: another process makes the same file of the same.
    """
    mine = _beside(path, hashlib.sha256(identity.encode()).hexdigest()[:DIGITS])
    if not os.path.exists(mine) and _all(path):
        print(
            f"cidermill: what an earlier run left of {path} is of other inputs or settings; it is "
            "begun anew",
            file=sys.stderr,
        )
    with files.full_disk_named(path), open(mine, "a+b") as handle:
        if not _locked(handle, mine):
            raise InputError(f"another run is writing {path}; wait for it or name another --to")
        try:
            yield _keep_whole(handle), handle
            handle.flush()
            os.fsync(handle.fileno())
        except (KeyboardInterrupt, Interrupted, OSError, MemoryError):
            raise
        except BaseException:
            os.unlink(mine)
            raise
        os.replace(mine, path)
    _remove_others(path)


def _beside(path: str, digest: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{digest}.part")


def _all(path: str) -> list[str]:
    """What runs of any settings have left for a target."""
    return sorted(glob.glob(_beside(glob.escape(path), "[0-9a-f]" * DIGITS)))


def _locked(handle: BinaryIO, path: str) -> bool:
    """Whether the file is ours alone from now on, and still has its name: one that another process
    has finished meanwhile has the target's."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle.fileno()), os.stat(path))
    except OSError:
        return False


def _keep_whole(handle: BinaryIO) -> int:
    """Cut off what is behind the last whole line; gives how many there are.

    A machine that loses its power can leave zeros: a line begins and ends as an object does.
    """
    handle.seek(0)
    count = end = 0
    for line in handle:
        if not (line.startswith(b"{") and line.endswith(b"}\n")):
            break
        count, end = count + 1, end + len(line)
    handle.truncate(end)
    handle.seek(end)
    return count


def _remove_others(path: str) -> None:
    """Remove what runs of other settings left for the same target, where none is at work."""
    for other in _all(path):
        with contextlib.suppress(OSError), open(other, "rb") as handle:
            if _locked(handle, other):
                os.unlink(other)
