"""Amounts as people write them: 10M tokens, 6.3T, 64k, 3e-4."""

from __future__ import annotations

import math
import re

_AMOUNT = re.compile(r"([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([kKMBT]?)$")
_SUFFIX = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


def parse_amount(text: str | float, what: str) -> float:
    """A number, with k, M, B or T for thousands, millions, billions and trillions.

    Raises:
      ValueError: it is none, or not finite.
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        number = float(text)
    else:
        match = _AMOUNT.match(str(text).strip())
        if match is None:
            raise ValueError(f"{what} is {text!r}; write a number such as 10M, 64k or 3e-4")
        number = float(match[1]) * _SUFFIX[match[2]]
    if not math.isfinite(number):
        raise ValueError(f"{what} is {text!r}; it must be finite")
    return number


def parse_count(text: str | float, what: str) -> int:
    """A whole number, such as of tokens. Raises ``ValueError`` as ``parse_amount``."""
    number = parse_amount(text, what)
    if number != int(number):
        raise ValueError(f"{what} is {text!r}; it must be a whole number")
    return int(number)


def show_count(number: float) -> str:
    """A count in three digits: 10M, 1.25B."""
    for suffix, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= size:
            return f"{number / size:.3g}{suffix}"
    return f"{number:g}"
