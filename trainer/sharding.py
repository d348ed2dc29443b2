"""How arrays lie on a mesh of devices: data, fsdp, tensor and sequence parallelism by annotation.

GSPMD (arXiv 2105.04663) partitions the program from what is said here: parameters are spread over
``fsdp`` (gathered where they are used; ZeRO stage 3, arXiv 1910.02054) and ``tensor`` (columns,
then rows: Megatron, arXiv 1909.08053, section 3); batches over ``data`` and ``fsdp``; and between
attention blocks the tokens of a window over ``sequence``. A dimension that an axis does not divide
stays whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

Array = jax.Array
Axes = tuple[str, ...]

AXES = ("data", "fsdp", "tensor", "sequence")
ROWS: Axes = ("data", "fsdp")
"""What the rows of a batch are spread over."""

_WANTED: dict[str, tuple[Axes, ...]] = {
    # By vocabulary alone: a row that is spread over devices would be gathered at every look-up.
    "embedding": (("fsdp", "tensor"), ()),
    **dict.fromkeys(("q", "k", "v", "gate", "up"), (("fsdp",), ("tensor",))),
    **dict.fromkeys(("o", "down"), (("tensor",), ("fsdp",))),
}


class MeshError(ValueError):
    """A mesh that these devices or this batch do not allow; the message says what would fit."""


@dataclass(frozen=True)
class RowShare:
    """Which rows of every batch a process loads: share ``host`` of ``hosts``.

    ``blocks`` are its places along ``ROWS``. Processes whose devices differ in tensor or sequence
    alone have the same share.
    """

    host: int
    hosts: int
    blocks: tuple[int, ...]


def row_share(owners: NDArray[np.int_], process: int) -> RowShare:
    """The share of a process; ``owners`` is the process of each device, as the mesh has them.

    Raises:
      MeshError: the processes do not hold equally many rows each, or some in common and some not.
    """
    blocks = owners.reshape(owners.shape[0] * owners.shape[1], -1)
    held = {
        int(own): tuple(np.flatnonzero((blocks == own).any(1)).tolist())
        for own in np.unique(owners)
    }
    shares = sorted(set(held.values()))
    if len({len(share) for share in shares}) > 1 or sum(map(len, shares)) > len(blocks):
        raise MeshError(
            f"a mesh of {'x'.join(map(str, owners.shape))} on {len(held)} processes, which would "
            "have parts of each other's rows; tensor x sequence must divide the devices of a "
            "process, or be a multiple of them"
        )
    return RowShare(shares.index(held[process]), len(shares), held[process])


@dataclass(frozen=True)
class Layout:
    """A mesh with the rules of what lies where."""

    mesh: Mesh

    @cached_property
    def share(self) -> RowShare:
        """What this process loads of every batch. Raises ``MeshError``."""
        owners = [device.process_index for device in self.mesh.devices.flat]
        return row_share(np.array(owners).reshape(self.mesh.devices.shape), jax.process_index())

    def parameter(self, name: str, dims: Sequence[int]) -> NamedSharding:
        """Where a parameter lies, and what is kept of it by the optimizer."""
        wanted = _WANTED.get(name.rpartition(".")[2], ((),) * len(dims))
        return self._named(*(self._fitting(axes, n) for axes, n in zip(wanted, dims, strict=True)))

    def parameters(self, arrays: Mapping[str, Any]) -> dict[str, NamedSharding]:
        """``parameter`` for each of a dictionary."""
        return {name: self.parameter(name, np.shape(value)) for name, value in arrays.items()}

    def batch(self) -> NamedSharding:
        """Where (parts, rows, tokens) lies."""
        return self._named((), ROWS, ("sequence",))

    def whole(self) -> NamedSharding:
        """On every device the same."""
        return self._named()

    def residual(self, x: Array) -> Array:
        """(rows, tokens, width): tokens are spread over ``sequence``."""
        return self._constrain(x, ROWS, ("sequence",), ())

    def gathered(self, x: Array) -> Array:
        """(rows, tokens, width): the tokens of a window on one device."""
        return self._constrain(x, ROWS, (), ())

    def heads(self, x: Array, kv_heads: int) -> Array:
        """(rows, heads, tokens, head): attention needs a window whole, and takes heads apart.

        Queries go with their keys, so the key-value heads decide how far.
        """
        return self._constrain(x, ROWS, self._fitting(("tensor", "sequence"), kv_heads), (), ())

    def hidden(self, x: Array) -> Array:
        """(rows, tokens, hidden) inside a feed-forward block."""
        return self._constrain(x, ROWS, ("sequence",), self._fitting(("tensor",), x.shape[2]))

    def size(self, axes: Sequence[str]) -> int:
        """Devices along some axes."""
        return math.prod(self.mesh.shape[axis] for axis in axes)

    def _fitting(self, axes: Axes, dimension: int) -> Axes:
        """As many of the axes, in order, as divide a dimension."""
        found: Axes = ()
        for axis in axes:
            if dimension % self.size((*found, axis)) == 0:
                found = (*found, axis)
        return found

    def _named(self, *axes: Axes) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(*(a or None for a in axes)))

    def _constrain(self, x: Array, *axes: Axes) -> Array:
        return jax.lax.with_sharding_constraint(x, self._named(*axes))


def make_layout(sizes: Sequence[int], devices: Sequence[Any] | None = None) -> Layout:
    """The mesh of these sizes, for ``AXES`` in order; those left out are 1.

    Raises:
      MeshError: the sizes do not multiply to the number of devices.
    """
    found = list(jax.devices() if devices is None else devices)
    full = (*sizes, *(1,) * (len(AXES) - len(sizes)))
    if len(full) > len(AXES) or any(size < 1 for size in full):
        raise MeshError(
            f"a mesh of {'x'.join(map(str, sizes))}; give one to four sizes from 1: "
            f"{' x '.join(AXES)}"
        )
    if math.prod(full) != len(found):
        raise MeshError(
            f"a mesh of {'x'.join(map(str, full))} needs {math.prod(full)} devices; "
            f"there are {len(found)}"
        )
    grid = np.array(found).reshape(full)
    return Layout(Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES)))


def parse_mesh(text: str) -> tuple[int, ...]:
    """``2x4x1x1`` as sizes. Raises ``MeshError``."""
    try:
        return tuple(int(part) for part in text.split("x"))
    except ValueError:
        raise MeshError(f"a mesh of {text!r}; write it like 2x4x1x1: {' x '.join(AXES)}") from None
