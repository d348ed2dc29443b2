"""Memory that the C library keeps for itself."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Return to the system what has been freed, where the C library can (glibc; not musl or macOS).

    What compiling and validating free lies in pieces between what is kept, and glibc holds on to
    it: of a model of 15M parameters more than half a gigabyte, beside which a step's own memory
    comes from the system anew.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
