"""A folder of a few files that is replaced whole or not at all, also under a reader's hands.

Files are written and synced in a hidden folder beside it, under a name that no other writer has.
Then both change places in one step, so that at any moment a whole one is there, and each of several
writers removes what it got in exchange and nothing else. On systems without such a step (Linux has
it, renameat2(2)) the earlier folder is set aside first; a run that is killed between leaves it
there, and ``set_aside`` finds it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

WRITING, EARLIER = ".writing", ".earlier"
ATTEMPTS = 100
"""How often another writer may come between before that is an error."""
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST)
_LACKING = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def write_folder(folder: str, files: Mapping[str, bytes]) -> None:
    """Write files by name; an earlier folder is replaced with all that is in it.

    A link is followed. A run that is killed leaves a hidden folder that ends in ``.writing``.

    Raises:
      OSError: they cannot be written, or the place is taken by what is no folder.
    """
    target = os.path.realpath(folder)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    temporary = _own_folder(target)
    try:
        for name, content in files.items():
            with open(os.path.join(temporary, name), "wb") as out:
                out.write(content)
                out.flush()
                os.fsync(out.fileno())
        sync_folder(temporary)
        earlier = _put(temporary, target)
        sync_folder(os.path.dirname(target))
        if earlier is not None:
            shutil.rmtree(earlier, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sync_folder(folder: str) -> None:
    """A rename is safe from a crash when its folder is on the disk as well."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def open_together(folder: str, names: Sequence[str]) -> Iterator[list[BinaryIO]]:
    """Open files of a folder, all of the same one though another may take its place meanwhile.

    Raises:
      OSError: one cannot be opened; ``filename`` tells which.
    """
    for attempt in itertools.count(1):
        with ExitStack() as stack:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, handle)
            try:
                files = [stack.enter_context(_open_in(folder, handle, name)) for name in names]
            except FileNotFoundError:
                replaced = not os.path.samestat(os.fstat(handle), os.stat(folder))
                if replaced and attempt < ATTEMPTS:
                    continue
                raise
            yield files
            return


def set_aside(folder: str) -> str | None:
    """Where a run that was killed has left the folder that it was to replace; the last, of some."""
    above, name = os.path.split(os.path.realpath(folder))
    found = []
    with contextlib.suppress(OSError):
        for other in os.listdir(above):
            if other.startswith(f".{name}.") and other.endswith(EARLIER):
                path = os.path.join(above, other)
                found.append((os.stat(path).st_ctime_ns, path))
    return max(found)[1] if found else None


def _open_in(folder: str, handle: int, name: str) -> BinaryIO:
    try:
        return os.fdopen(os.open(name, os.O_RDONLY, dir_fd=handle), "rb")
    except OSError as error:
        error.filename = os.path.join(folder, name)
        raise


def _own_folder(target: str) -> str:
    """An empty folder beside the target that no other writer has, on this machine or another."""
    above, name = os.path.split(target)
    for number in itertools.count():
        own = os.path.join(above, f".{name}.{os.getpid()}.{number}{WRITING}")
        with contextlib.suppress(FileExistsError):
            os.mkdir(own)
            if not os.path.lexists(_beside(own)):
                return own
            os.rmdir(own)
    raise AssertionError("numbers do not end")


def _beside(own: str) -> str:
    """Where a writer sets aside what it replaces."""
    return own.removesuffix(WRITING) + EARLIER


def _put(temporary: str, target: str) -> str | None:
    """Put a folder in its place; where the one that stood there lies now, if one did."""
    for _ in range(ATTEMPTS):
        # What another writer does between two steps shows in the next, which is tried anew.
        try:
            os.rename(temporary, target)
            return None
        except OSError as error:
            if error.errno not in _OCCUPIED:
                raise
        with contextlib.suppress(FileNotFoundError):
            if exchange(temporary, target):
                return temporary
            earlier = _beside(temporary)
            os.rename(target, earlier)
            if _follow(temporary, target, earlier):
                return earlier
    raise OSError(errno.EBUSY, f"others replace it all the time; tried {ATTEMPTS} times", target)


def _follow(temporary: str, target: str, earlier: str) -> bool:
    """Put a folder where another was set aside; False if some other writer's is there already."""
    try:
        os.rename(temporary, target)
    except BaseException as error:
        if isinstance(error, OSError) and error.errno in _OCCUPIED:
            shutil.rmtree(earlier, ignore_errors=True)
            return False
        os.rename(earlier, target)
        raise
    return True


def exchange(one: str, other: str) -> bool:
    """Two paths change places in one step; False where the system or its disk cannot.

    Raises:
      OSError: one of them is not there, or may not be renamed.
    """
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    if not sys.platform.startswith("linux"):
        return False
    paths = os.fsencode(one), os.fsencode(other)
    if call(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], ctypes.c_uint(_RENAME_EXCHANGE)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _LACKING:
        return False
    raise OSError(number, os.strerror(number), one, None, other)
