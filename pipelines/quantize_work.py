"""What a quantization has done so far, in a folder beside its target, so that a command that was
ended goes on from its last step."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from typing import Any

from trainer import checkpoint
from trainer.checkpoint import Arrays, CheckpointError

ARRAYS = "arrays"

Made = tuple[Arrays, dict[str, Any]]
"""What a step gives: arrays, and whatever JSON holds."""


_STEP = re.compile(r"(\.writing-)?step-\d{8,}")


def is_work(folder: str) -> bool:
    """Whether a folder holds nothing but steps, so that it may be removed when all is done."""
    if os.path.islink(folder) or not os.path.isdir(folder):
        return False
    return all(_STEP.fullmatch(name) for name in os.listdir(folder))


class Work:
    """The steps of one quantization, each stored whole when it is done.

    A step is a checkpoint of ``trainer.checkpoint``. It is taken over if it is undamaged and of the
    same key; else it is made anew.
    """

    def __init__(
        self, folder: str, key: Mapping[str, Any], say: Callable[[str], None] = lambda _: None
    ) -> None:
        """``key`` is everything that a step's outcome depends on."""
        self._folder, self._say = folder, say
        self._key = _digest(key)
        self._number = 0

    def step(self, name: str, make: Callable[[], Made]) -> Made:
        """The outcome of the next step, stored or made; ``seconds`` in it are what making took.

        Steps must be asked for in the same order each time.
        """
        self._number += 1
        found = self._find(name)
        if found is not None:
            self._say(f"{name}: done before, taken from {self._folder}")
            return found
        begun = time.monotonic()
        arrays, state = make()
        state = {**state, "seconds": time.monotonic() - begun}
        os.makedirs(self._folder, exist_ok=True)
        checkpoint.save(
            self._folder, self._number, {ARRAYS: arrays},
            {"key": self._key, "name": name, "made": state, "digest": _digest(state)},
        )  # fmt: skip
        return arrays, state

    def _find(self, name: str) -> Made | None:
        path = checkpoint.path_of(self._folder, self._number)
        if not os.path.isdir(path):
            return None
        try:
            arrays, state = checkpoint.load(path)
        except CheckpointError as error:
            self._say(f"{name}: made anew: {str(error).partition(';')[0]}")
            return None
        made = state.get("made")
        if (state.get("key"), state.get("name")) != (self._key, name):
            self._say(f"{name}: made anew: {path} is of other settings, data or code")
            return None
        if (
            ARRAYS not in arrays
            or not isinstance(made, dict)
            or state.get("digest") != _digest(made)
        ):
            self._say(f"{name}: made anew: {path} is damaged")
            return None
        return arrays[ARRAYS], made

    def remove(self) -> None:
        """All steps are done, and nothing of them is needed any more."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
