"""One file of arrays, as safetensors writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file


def save_arrays(
    arrays: Mapping[str, NDArray[Any]], path: str, metadata: dict[str, str] | None = None
) -> None:
    """Write arrays by name. They are sorted by type and name: the same arrays give the same bytes.

    Raises:
      OSError: the file cannot be written, such as on a full disk; safetensors has an error of its
        own for it.
    """
    whole = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    try:
        save_file(whole, path, metadata=metadata)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from None
