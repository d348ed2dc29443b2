"""JSON files that say what they are: ``format`` and ``version``, checked before all else."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

MAX_BYTES = 64 << 20
HEAD = ("format", "version")


def read_headed(
    path: str,
    form: str,
    version: int,
    what: str,
    error: type[ValueError],
    unread: str | None = None,
) -> dict[str, Any]:
    """The object in a file of this format and version.

    Raises:
      error: it cannot be read (``unread`` says so in other words), is not ``what``, or of another
        version.
    """
    try:
        with open(path, encoding="utf-8") as handle:
            found = json.loads(handle.read(MAX_BYTES))
    except (OSError, ValueError, RecursionError) as reason:
        raise error(f"{unread or f'{path} cannot be read'}: {reason}") from None
    if not isinstance(found, dict) or found.get("format") != form:
        raise error(f"{path} is not {what}")
    if found.get("version") != version:
        raise error(
            f"{path} is of version {found.get('version')!r}; this code reads version {version}"
        )
    return found


def write_headed(path: str, form: str, version: int, content: Mapping[str, Any]) -> None:
    """Write what ``read_headed`` reads, whole or not at all; equal contents are equal bytes."""
    temporary = f"{path}.writing"
    with open(temporary, "w", encoding="utf-8") as handle:
        json.dump({"format": form, "version": version, **content}, handle, indent=1, sort_keys=True)
        handle.write("\n")
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, path)
