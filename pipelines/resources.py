"""Files that a recipe's options name: digests, a place that every worker reaches, local copies.

The digests belong to the run's hashes. For an engine whose workers run elsewhere, the files go to
the work directory; from there a worker machine fetches each once, by its digest, into a cache that
outlives the run, and all its processes map the same copy into memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipelines import files
from pipelines.benchmark_indexes import DEMO
from pipelines.inputs_error import InputError
from pipelines.recipe import Recipe

CACHE_VARIABLE = "CIDERMILL_CACHE"


class DamagedResource(RuntimeError):
    """A file that was fetched is not what the run was planned with."""


def resource_digests(recipe: Recipe) -> tuple[tuple[str, str], ...]:
    """(path, digest) of every file or folder named in an option that a stage declares as files.

    Raises:
      InputError: a named file does not exist.
    """
    found: dict[str, str] = {}
    for source in recipe.sources:
        for stage in recipe.chain(source.name):
            for path in stage.named_files():
                if path != DEMO and path not in found:
                    found[path] = resource_digest(path)
    return tuple(sorted(found.items()))


def check_resources(recipe: Recipe) -> None:
    """Refuse files that stages cannot use, as far as they lie on this machine.

    Raises:
      InputError: the message names the file and its fault.
    """
    for source in recipe.sources:
        for stage in recipe.chain(source.name):
            if stage.spec.check is None or not all(map(files.is_local, stage.named_files())):
                continue
            try:
                stage.spec.check(stage.options)
            except (OSError, ValueError) as error:
                raise InputError(f"the stage {stage.name!r} cannot be used: {error}") from None


def resource_digest(path: str) -> str:
    """The SHA-256 over the names and digests of a folder's files, or of a file's bytes."""
    members = _members(path)
    if not members:
        raise InputError(f"the recipe names {path}, which does not exist")
    if list(members) == [""]:
        return files.sha256(path)
    rows = "".join(f"{name}\0{files.sha256(place)}\n" for name, place in members.items())
    return hashlib.sha256(rows.encode()).hexdigest()


def _members(path: str) -> dict[str, str]:
    """Name and path of each file of a folder; of a plain file, its path under an empty name."""
    if files.is_local(path):
        if os.path.isfile(path):
            return {"": path}
        found = [str(p) for p in sorted(Path(path).glob("*")) if p.is_file()]
    else:
        if files.exists(path):
            return {"": path}
        found = [name for name, _, _ in files.listing(path.rstrip("/") + "/*")]
    return {name.rpartition("/")[2]: name for name in found}


def stage_resources(digests: Mapping[str, str], work: str) -> tuple[tuple[str, str], ...]:
    """Copy local resources to the work directory; (path, where workers find it) of each.

    What is there already under its digest is not copied again.
    """
    staged = []
    for path, digest in digests.items():
        target = path
        if files.is_local(path):
            target = files.join(work, "resources", digest)
            _upload(path, target)
        staged.append((path, target))
    return tuple(staged)


def _upload(path: str, target: str) -> None:
    marker = files.join(target, "complete")
    if files.exists(marker):
        return
    for name, place in _members(path).items():
        with open(place, "rb") as source, files.write_whole(_member(target, name)) as out:
            shutil.copyfileobj(source, out, files.PIECE)
    files.write_bytes(marker, b"complete\n")


def _member(folder: str, name: str) -> str:
    return files.join(folder, "files", name or "content")


def local_copy(staged: str, digest: str) -> str:
    """A local path of a resource: itself where it is local, or the machine's cached copy.

    Raises:
      DamagedResource: what was fetched does not have the digest.
    """
    source = files.join(staged, "files") if files.exists(files.join(staged, "complete")) else staged
    if files.is_local(source):
        single = os.path.join(source, "content")
        return single if os.path.isfile(single) else source
    target = os.path.join(cache_folder(), digest)
    with _locked(f"{target}.lock"):
        if not os.path.exists(target):
            _fetch(source, target, digest)
    return target


def _fetch(source: str, target: str, digest: str) -> None:
    """Fetch to a name of its own, check, and rename: a copy is there whole or not at all."""
    temporary = f"{target}.{uuid.uuid4().hex}.tmp"
    try:
        members = _members(source)
        if list(members) in ([""], ["content"]):
            _download(next(iter(members.values())), temporary)
        else:
            os.makedirs(temporary)
            for name, place in members.items():
                _download(place, os.path.join(temporary, name))
        found = resource_digest(temporary)
        if found != digest:
            raise DamagedResource(
                f"{source} has the digest {found}, but the run was planned with {digest}; it was "
                "changed or is damaged: run again"
            )
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _download(place: str, target: str) -> None:
    with files.open_raw(place) as source, open(target, "wb") as out:
        shutil.copyfileobj(source, out, files.PIECE)


def cache_folder() -> str:
    """The machine's cache: ``CIDERMILL_CACHE``, or ``~/.cache/cidermill``, or a temporary one."""
    named = os.environ.get(CACHE_VARIABLE)
    home = os.path.join(os.path.expanduser("~"), ".cache", "cidermill")
    last = os.path.join(tempfile.gettempdir(), f"cidermill-{os.getuid()}")
    for folder in [named] if named else [home, last]:
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise OSError(f"no cache folder can be written; name one with {CACHE_VARIABLE}")


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """Hold a file's lock: the other processes of a machine wait instead of fetching as well."""
    with open(path, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
