"""How a text is scored that is longer than a window: in windows that overlap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scored:
    """A text's nats by token, from its second on: (tokens - 1,), and where the model's own choice
    was the token: (tokens - 1,)."""

    nats: NDArray[np.float32]
    first: NDArray[np.bool_]


class Window(NamedTuple):
    """Tokens ``start`` to ``end`` of a text. Each but the last predicts the token behind it, and
    the predictions from place ``counted`` on count."""

    start: int
    end: int
    counted: int


def overlapping(tokens: int, length: int) -> Iterator[Window]:
    """Windows that overlap by half, so that every token has half a window before it, or all that
    there is: of each but the first only the later half counts, and each prediction in one.

    Args:
      tokens: of the text.
      length: of a window, at least 2.
    """
    # One whose first half and one place more were the whole window would never get further.
    before = min(length // 2, length - 2)
    counted = 0
    while counted < tokens - 1:
        start = max(0, counted - before)
        end = min(tokens, start + length)
        yield Window(start, end, counted)
        counted = end - 1
