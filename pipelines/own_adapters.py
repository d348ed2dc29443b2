"""Folders of adapters that commands wrote, and may replace: they tell of it themselves."""

from __future__ import annotations

import os

from runtime.adapter_config import BASE, CONFIG, AdapterError
from runtime.adapter_files import WEIGHTS, read_config

RECOVERED = "cidermill_recovery_tokens"
ADAPTED = "cidermill_adapted"
"""Fields of the configuration that ``quantize`` and ``adapt`` add."""


def base_of(folder: str, made: str) -> str | None:
    """The SHA-256 of the base that an adapter is for; ``None`` where a folder is no adapter of this
    making, or holds more than that."""
    if os.path.islink(folder) or not os.path.isdir(folder):
        return None
    if not {CONFIG, WEIGHTS}.issuperset(os.listdir(folder)):
        return None
    try:
        config = read_config(folder)
    except AdapterError:
        return None
    base = config.get(BASE)
    return base if made in config and isinstance(base, str) else None
