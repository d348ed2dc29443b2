"""Checkpoints: arrays as safetensors, the rest as JSON, whole or not at all.

A checkpoint is a folder, written under another name and renamed when all its files are on disk. A
damaged one is refused by the digests in its ``state.json``, which has one of itself as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from trainer.headed import HEAD, read_headed, write_headed
from trainer.prune import has_masks
from trainer.safe_file import save_arrays

Arrays = dict[str, NDArray[Any]]

FORMAT = "cidermill-checkpoint"
VERSION = 2
STATE = "state.json"
CHECKPOINTS = "checkpoints"
"""The folder of a run that holds its checkpoints."""
SEAL = "sha256"
READ_BYTES = 1 << 20
_NAME = re.compile(r"step-(\d{8,})$")
_TEMPORARY = ".writing-"


class CheckpointError(ValueError):
    """A checkpoint that is damaged, or of another model or data; the message says which."""


def save(
    folder: str, step: int, arrays: Mapping[str, Mapping[str, NDArray[Any]]], state: dict[str, Any]
) -> str:
    """Write a checkpoint into ``folder``; gives its path.

    ``arrays`` are the files by name, such as ``params``, each a dictionary of arrays.
    """
    target = path_of(folder, step)
    temporary = os.path.join(folder, f"{_TEMPORARY}{os.path.basename(target)}")
    shutil.rmtree(temporary, ignore_errors=True)
    os.makedirs(temporary)
    digests = {}
    for own, content in arrays.items():
        path = os.path.join(temporary, f"{own}.safetensors")
        save_arrays(content, path)
        digests[f"{own}.safetensors"] = digest(path)
        sync(path)
    path = os.path.join(temporary, STATE)
    write_headed(path, FORMAT, VERSION, sealed({"step": step, "files": digests, **state}))
    if os.path.exists(target):
        # Of a run that was begun anew from before it.
        shutil.rmtree(target)
    os.rename(temporary, target)
    sync(folder)
    return target


def path_of(folder: str, step: int) -> str:
    """Where the checkpoint of a step lies, or would."""
    return os.path.join(folder, f"step-{step:08d}")


def load(path: str) -> tuple[dict[str, Arrays], dict[str, Any]]:
    """Arrays by file, and the state.

    Raises:
      CheckpointError: no checkpoint, of another version, or damaged.
    """
    state = read_state(path)
    files = state.get("files")
    if not isinstance(files, dict):
        raise CheckpointError(f"{path}: {STATE} names no files")
    arrays = {}
    for name, expected in files.items():
        place = os.path.join(path, name)
        if os.path.basename(name) != name or not name.endswith(".safetensors"):
            raise CheckpointError(f"{path}: {STATE} names the file {name!r}")
        try:
            if digest(place) != expected:
                raise CheckpointError(
                    f"{place} is damaged: its digest is not that of {STATE}; remove {path} to "
                    "go on from the checkpoint before it"
                )
            arrays[name.removesuffix(".safetensors")] = load_file(place)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{place} cannot be read: {error}") from None
    return arrays, state


def holds_masks(path: str) -> bool:
    """Whether a checkpoint lies within a stage that prunes; one that cannot be read does not."""
    try:
        arrays = load(path)[0]
    except CheckpointError:
        return False
    return has_masks(arrays.get("params", {}))


def context_of(state: Mapping[str, Any]) -> int:
    """Tokens of the longest window before the run of a checkpoint; earlier ones do not tell."""
    found = state.get("context", 0)
    return found if isinstance(found, int) else 0


def read_state(path: str) -> dict[str, Any]:
    """The state alone. Raises ``CheckpointError``."""
    place = os.path.join(path, STATE)
    found = read_headed(
        place, FORMAT, VERSION, "the state of a checkpoint", CheckpointError,
        unread=f"{path} is no checkpoint",
    )  # fmt: skip
    if sealed(found)[SEAL] != found.pop(SEAL, None):
        raise CheckpointError(
            f"{place} is damaged: its digest is not that of its content; remove {path} to go on "
            "from the checkpoint before it"
        )
    return found


def sealed(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state with the SHA-256 of all the rest of it, but for what every such file begins with."""
    rest = {key: value for key, value in state.items() if key not in (SEAL, *HEAD)}
    # Keys of dictionaries are texts only when they come back from JSON.
    content = json.dumps(json.loads(json.dumps(rest)), sort_keys=True)
    return {**state, SEAL: hashlib.sha256(content.encode()).hexdigest()}


def field(path: str, state: Mapping[str, Any], name: str, *kinds: type) -> Any:
    """What a state has under a name, of one of these types.

    Raises:
      CheckpointError: it is absent, of another type, or a number below 0.
    """
    found = state.get(name)
    known = isinstance(found, kinds) and not isinstance(found, bool)
    if name not in state or not known or (isinstance(found, int) and found < 0):
        told = f"is {found!r:.40}" if name in state else "is absent"
        wanted = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
        raise CheckpointError(
            f"{os.path.join(path, STATE)} is damaged: {name!r} {told}; it must be {wanted}, and "
            f"no number below 0; remove {path} to go on from the checkpoint before it"
        )
    return found


def listed(folder: str) -> list[str]:
    """The checkpoints of a folder, the earliest first. What was not finished is not among them."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = [(int(match[1]), name) for name in names if (match := _NAME.match(name))]
    return [os.path.join(folder, name) for _, name in sorted(found)]


def keep_last(folder: str, count: int) -> None:
    """Remove all but the last ``count`` checkpoints, and what was never finished.

    Raises:
      ValueError: ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"the last {count} checkpoints; at least 1 must stay to go on from")
    for path in listed(folder)[:-count]:
        shutil.rmtree(path)
    for name in os.listdir(folder):
        if name.startswith(_TEMPORARY):
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)


def check_shapes(
    path: str, found: Mapping[str, NDArray[Any]], wanted: Mapping[str, Sequence[int]]
) -> None:
    """Compare arrays with the dimensions of a model.

    Raises:
      CheckpointError: one is missing, unknown, or of other dimensions; the first by name.
    """
    for name in sorted({*found, *wanted}):
        if name not in found:
            raise CheckpointError(f"{path} lacks {name}, which this model has")
        if name not in wanted:
            raise CheckpointError(f"{path} has {name}, which this model lacks")
        if found[name].shape != tuple(wanted[name]):
            raise CheckpointError(
                f"{path}: {name} is {found[name].shape}, and this model's is {tuple(wanted[name])}"
            )


def digest(path: str) -> str:
    """The SHA-256 of a file."""
    found = hashlib.sha256()
    with open(path, "rb") as handle:
        while piece := handle.read(READ_BYTES):
            found.update(piece)
    return found.hexdigest()


def sync(path: str) -> None:
    """Have a file, or the names in a folder, on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
