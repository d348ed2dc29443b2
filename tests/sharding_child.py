"""Trains on one mesh for ``test_trainer_sharding``; prints losses and writes the parameters."""

from __future__ import annotations

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

from trainer import arrays, compute, optimizer
from trainer.model import initialise
from trainer.optimizer import Optimizer
from trainer.shape import Layer, Shape
from trainer.sharding import make_layout
from trainer.step import StepSettings, make_step, parts_of, to_parts

SHAPE = Shape(256, 64, 16, (Layer(4, 2, 128),) * 2)
ROWS, LENGTH, STEPS = 16, 128, 4


def batch_of(step: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(step)
    places = np.tile(np.arange(LENGTH, dtype=np.int32), (ROWS, 1))
    second = places >= random.integers(20, 100, ROWS)[:, None]
    return {
        "tokens": random.integers(0, 256, (ROWS, LENGTH)).astype(np.int32),
        "segments": np.where(second, 2, 1).astype(np.int32),
        "positions": places,
    }


def main(mesh: str, target: str, port: str = "", process: str = "0") -> None:
    hosts = compute.Hosts(f"127.0.0.1:{port}", 2, int(process)) if port else None
    compute.start(None, hosts)
    layout = make_layout([int(size) for size in mesh.split("x")]) if mesh != "one" else None
    params = arrays.put_params(initialise(SHAPE, 0), layout)
    zeros = arrays.fetch(optimizer.start(arrays.fetch(params))["square"])
    state = {
        "momentum": arrays.put_params(zeros, layout),
        "square": arrays.put_params(zeros, layout),
        "applied": arrays.put_scalar(np.int32(0), layout),
    }
    step = make_step(StepSettings(SHAPE, Optimizer(), layout=layout))
    losses = []
    own = ROWS // jax.process_count()
    mine = slice(jax.process_index() * own, (jax.process_index() + 1) * own)
    for number in range(STEPS):
        batch = {name: value[mine] for name, value in batch_of(number).items()}
        held = arrays.put_batch(to_parts(batch, parts_of(ROWS, LENGTH, layout)), layout)
        params, state, told = step(params, state, held, arrays.put_scalar(np.float32(1), layout))
        losses.append(float(told["loss"]))
    local = params["layers.0.gate"].addressable_shards[0].data.shape
    found = arrays.fetch(params)
    if jax.process_index() == 0:
        np.savez(target, **found)
    print(json.dumps({"losses": losses, "gate": list(local), "devices": jax.device_count()}))
    assert jnp.isfinite(jnp.asarray(losses)).all()


if __name__ == "__main__":
    main(*sys.argv[1:])
