"""Where a command writes, and what it must not replace there: what it reads, and what is another's.

It is checked before anything is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from pipelines.inputs_error import InputError

MAX_REPORT_BYTES = 64 << 20
"""A report holds a number for each step; what is larger is none."""


def check_folder(target: str, option: str = "--to") -> None:
    """Raises ``InputError`` where the folder of a file to be written is not there."""
    above = os.path.dirname(os.path.abspath(target))
    if not os.path.isdir(above):
        raise InputError(f"{option} is {target}, and there is no folder {above}")


def check_apart(target: str, *read: str | None, option: str = "--to") -> None:
    """Raises ``InputError`` where a target is one of the files and folders that are read, by
    whatever name or link, or a folder that holds one. ``None`` is no file."""
    for path in read:
        if path is None:
            continue
        same = is_same(target, path)
        if same or _holds(target, path):
            how = "" if path == target else f"{'is' if same else 'holds'} {path}, which "
            raise InputError(f"{target} {how}is read and would be lost; name another {option}")


def check_outside(start: str, target: str) -> None:
    """Raises ``InputError`` where a run would begin with what lies in its own folder."""
    if is_same(start, target) or _holds(target, start):
        raise InputError(
            f"--start {start} lies in the folder of the run, {target}; give the run another --name "
            "or --target"
        )


def check_own(target: str, is_own: Callable[[str], bool], kind: str, option: str = "--to") -> None:
    """Raises ``InputError`` where a target is there and is none of the kind that is written, such
    as ``GGUF file``."""
    if os.path.lexists(target) and not is_own(target):
        raise InputError(
            f"{target} is there, is no {kind} and would be lost; name another {option}"
        )


def is_same(one: str, other: str) -> bool:
    """Whether two paths mean one file or folder, which need not be there."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _holds(folder: str, path: str) -> bool:
    return os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), ""))


def begins_with(path: str, magic: bytes) -> bool:
    """Whether a path is a file that begins so."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as handle:
        return handle.read(len(magic)) == magic


def is_report(path: str, kind: str) -> bool:
    """Whether a path is a report of ours, whose ``format`` is of this kind."""
    if not os.path.isfile(path) or os.path.getsize(path) > MAX_REPORT_BYTES:
        return False
    try:
        with open(path, encoding="utf-8") as handle:
            found = json.load(handle)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("format") == kind
