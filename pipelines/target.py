"""Where a command writes a file."""

from __future__ import annotations

import os

from pipelines.inputs_error import InputError


def check_folder(target: str) -> None:
    """Raises ``InputError`` where the folder of a file to be written is not there."""
    above = os.path.dirname(os.path.abspath(target))
    if not os.path.isdir(above):
        raise InputError(f"--to is {target}, and there is no folder {above}")
