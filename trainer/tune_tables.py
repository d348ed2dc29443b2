"""Table tuning: the entries of palettes trained against the float model, their indices as they are.

An entry's gradient is the sum of those of the weights that use it, so that entries move to where
the model, not the squared error of weights, wants them. It costs nothing at run time.

Entries are trained as offsets in units of their table's own spread: one rate then fits all layers.
A file holds entries as whole numbers with a scale and an offset for each table; training computes
with what the file will hold, and gradients pass through the rounding as if it were not there
(Bengio et al., arXiv 1308.3432, section 2.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from trainer.model import Params
from trainer.optimizer import Optimizer, adamw
from trainer.student import Arrays, Student

Array = jax.Array

RATE = 0.01
"""Of a table's spread, about what an entry moves in a step at the most. Between a third and three
times as much, a model of 1M parameters came out within a quarter in what is lost."""


@dataclass(frozen=True)
class Table:
    """A palette as training takes it: indices (out, in), and tables (groups, entries), each for
    ``out // groups`` rows."""

    indices: NDArray[np.uint8]
    tables: NDArray[np.float32]


def optimizer(rate: float = RATE) -> Optimizer:
    """Adam without decay: entries have nothing to decay to."""
    return adamw(rate, 0.0, square_decay=0.99)


def table_student(palettes: Mapping[str, Table], frozen: Arrays, top: int | None = None) -> Student:
    """The student whose tables are trained.

    Args:
      palettes: by the name of the weight.
      frozen: all other parameters of the model.
      top: entries are held as whole numbers from 0 to this between a table's least and greatest;
        ``None`` for not rounding them.
    """
    fixed: dict[str, NDArray[np.generic]] = {}
    for name, palette in palettes.items():
        fixed[f"{name}.indices"] = palette.indices
        fixed[f"{name}.tables"] = palette.tables
        fixed[f"{name}.spread"] = _spread(palette.tables)
    trained = {name: np.zeros_like(palette.tables) for name, palette in palettes.items()}
    return Student(trained, frozen, fixed, partial(_live, top=top))


def tuned_tables(student: Student, trained: Arrays) -> dict[str, NDArray[np.float32]]:
    """The tables by the name of the weight, from what ``distill`` gives."""
    return {
        name: np.asarray(
            student.fixed[f"{name}.tables"] + student.fixed[f"{name}.spread"] * offsets, np.float32
        )
        for name, offsets in trained.items()
    }


def _spread(tables: NDArray[np.float32]) -> NDArray[np.float32]:
    """The standard deviation of each table's entries, (groups, 1)."""
    return np.maximum(tables.std(1, keepdims=True), 1e-12).astype(np.float32)


def _live(trained: Params, fixed: Params, top: int | None) -> Params:
    found = {}
    for name, offsets in trained.items():
        tables = fixed[f"{name}.tables"] + fixed[f"{name}.spread"] * offsets
        if top is not None:
            tables = tables + jax.lax.stop_gradient(_rounded(tables, top) - tables)
        found[name] = look_up(tables, fixed[f"{name}.indices"]).T
    return found


def _rounded(tables: Array, top: int) -> Array:
    low = tables.min(1, keepdims=True)
    scale = (tables.max(1, keepdims=True) - low) / top
    return jnp.round((tables - low) / jnp.where(scale > 0, scale, 1.0)) * scale + low


@jax.custom_vjp
def look_up(tables: Array, indices: Array) -> Array:
    """The matrix (out, in) of indices into tables (groups, entries)."""
    return _forward(tables, indices)[0]


def _forward(tables: Array, indices: Array) -> tuple[Array, tuple[Array, Array]]:
    grouped = indices.reshape(len(tables), -1).astype(jnp.int32)
    found = jnp.take_along_axis(tables, grouped, axis=1)
    return found.reshape(indices.shape), (tables, indices)


def _backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, None]:
    """Sums by entry as masked sums: a scatter, which autodiff would write, runs on one core and
    one number at a time."""
    tables, indices = saved
    grouped, own = indices.reshape(len(tables), -1), g.reshape(len(tables), -1)
    sums = [jnp.where(grouped == n, own, 0.0).sum(1) for n in range(tables.shape[1])]
    return jnp.stack(sums, 1), None


look_up.defvjp(_forward, _backward)
