"""What a run tells as it goes: a line of JSON a step and a validation, whole after any kill.

Lines are appended; a run that goes on from a checkpoint first cuts off what came after it.
"""

from __future__ import annotations

import json
import os
from typing import Any

from trainer.checkpoint import sync

Row = dict[str, Any]


class Journal:
    """A file of JSON lines, each with a ``step``."""

    def __init__(self, path: str) -> None:
        self._path = path

    def add(self, row: Row) -> None:
        """Append one line."""
        with open(self._path, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")

    def sync(self) -> None:
        """Have all lines on disk, so that no later checkpoint outlives them."""
        with open(self._path, "a", encoding="utf-8") as handle:
            os.fsync(handle.fileno())

    def rows(self) -> list[Row]:
        """All lines that are whole."""
        try:
            with open(self._path, encoding="utf-8") as handle:
                text = handle.read()
        except FileNotFoundError:
            return []
        found = []
        for line in text.split("\n")[:-1]:
            try:
                found.append(json.loads(line))
            except ValueError:
                break
        return found

    def cut(self, step: int) -> None:
        """Remove what is of later steps, and a line that is not whole."""
        kept = [row for row in self.rows() if row["step"] <= step]
        temporary = f"{self._path}.writing"
        with open(temporary, "w", encoding="utf-8") as handle:
            handle.writelines(json.dumps(row) + "\n" for row in kept)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, self._path)
        sync(os.path.dirname(self._path) or ".")
