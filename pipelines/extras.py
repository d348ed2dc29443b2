"""Parts of the package that need more to be installed."""

from __future__ import annotations

import importlib.util

from pipelines.inputs_error import InputError


def need(extra: str, *modules: str) -> None:
    """Ask for an extra where one of its modules is missing. Raises ``InputError``."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"this needs {', '.join(missing)}: install cidermill[{extra}]")
