"""Arrays from this process to the devices of all processes, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from trainer.sharding import Layout

Array = jax.Array


def put_params(arrays: Mapping[str, NDArray[Any]], layout: Layout | None) -> dict[str, Array]:
    """Parameters, or what is like them, on the devices. Every process has all of them."""
    if layout is None:
        return {name: jnp.asarray(value) for name, value in arrays.items()}
    return {
        name: jax.make_array_from_callback(
            value.shape, layout.parameter(name, value.shape), value.__getitem__
        )
        for name, value in arrays.items()
    }


def put_batch(batch: Mapping[str, NDArray[Any]], layout: Layout | None) -> dict[str, Array]:
    """A batch (parts, rows, tokens); each process has the whole windows of its ``RowShare``."""
    if layout is None:
        return {name: jnp.asarray(value) for name, value in batch.items()}
    return {name: _put_rows(value, layout) for name, value in batch.items()}


def _put_rows(value: NDArray[Any], layout: Layout) -> Array:
    share = layout.share
    parts, rows, length = value.shape
    block = rows // len(share.blocks)

    def piece(index: tuple[slice, ...] | None) -> NDArray[Any]:
        # A device asks by the rows of all processes; the own ones lie here block by block.
        assert index is not None
        own = share.blocks.index((index[1].start or 0) // block) * block
        return value[index[0], own : own + block, index[2]]

    return jax.make_array_from_callback((parts, rows * share.hosts, length), layout.batch(), piece)


def put_scalar(value: Any, layout: Layout | None) -> Array:
    """A number, on every device the same."""
    found = np.asarray(value)
    if layout is None:
        return jnp.asarray(found)
    return jax.make_array_from_callback((), layout.whole(), lambda _: found)


def everyone(value: int) -> list[int]:
    """What each process gives, by process; all of them must ask at the same place."""
    if jax.process_count() == 1:
        return [value]
    from jax.experimental.multihost_utils import process_allgather

    found: list[int] = np.asarray(process_allgather(np.int32(value))).tolist()
    return found


def fetch(arrays: Mapping[str, Array]) -> dict[str, NDArray[Any]]:
    """Whole arrays on this machine, in every process."""
    return {name: _fetch(value) for name, value in arrays.items()}


def _fetch(value: Array) -> NDArray[Any]:
    if value.is_fully_addressable:
        return np.asarray(value)
    from jax.experimental.multihost_utils import process_allgather

    return np.asarray(process_allgather(value, tiled=True))
