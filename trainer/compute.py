"""Devices: how JAX is started, where compiled programs are kept, and whether bf16 pays here."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from trainer.linear import linear

ROUNDS = 9
GAIN = 1.05
"""How many times as fast bf16 must be: it costs digits, and measurements err by some hundredths."""
CACHE = "jax"


@dataclass(frozen=True)
class Hosts:
    """Several processes that train together: the first one's address, how many, and which."""

    coordinator: str
    processes: int
    process: int

    def __post_init__(self) -> None:
        if self.processes < 1 or not 0 <= self.process < self.processes:
            raise ValueError(
                f"process {self.process} of {self.processes}; they count from 0 to one less than "
                "their number"
            )
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError(
                f"the coordinator is {self.coordinator!r}; give HOST:PORT of the first process"
            )


def start(cache: str | None, hosts: Hosts | None = None) -> None:
    """Set up JAX before its first use; with ``hosts``, join the other processes.

    ``cache`` is a folder for compiled programs, so that the next run need not compile them.
    """
    if cache is not None:
        jax.config.update("jax_compilation_cache_dir", os.path.join(cache, CACHE))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if hosts is not None:
        # Its service would take SIGTERM for itself, and the run would not hear of it.
        jax.config.update("jax_enable_preemption_service", False)
        jax.distributed.initialize(hosts.coordinator, hosts.processes, hosts.process)


def usable_cores() -> int:
    """Cores that this process may use, which need not be all of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def bf16_ratio(width: int, hidden: int, tokens: int = 1024) -> float:
    """How fast a feed-forward block's products and their gradients are in bf16, as a ratio to f32.

    The median of rounds that time both types one after the other, so that what else the machine
    does falls on both, and one disturbed round decides nothing. Takes about a second. Its result is
    for a decision that is then written down, never recomputed.
    """
    run = jax.jit(_block)
    kinds = [
        (jnp.ones((tokens, width), dtype), jnp.ones((width, hidden), dtype))
        for dtype in (jnp.float32, jnp.bfloat16)
    ]
    for kind in kinds:
        jax.block_until_ready(run(*kind))
    ratios = []
    for _ in range(ROUNDS):
        single, half = (_time(run, *kind) for kind in kinds)
        ratios.append(single / half)
    return statistics.median(ratios)


def bf16_pays(ratio: float) -> bool:
    """Whether bf16 is so many times as fast as f32 that it is worth its digits."""
    return ratio >= GAIN


def _time(run: Callable[..., Any], *arrays: jax.Array) -> float:
    """Seconds that a computation takes."""
    begun = time.perf_counter()
    jax.block_until_ready(run(*arrays))
    return time.perf_counter() - begun


@partial(jax.grad, argnums=(0, 1))
def _block(x: jax.Array, weight: jax.Array) -> jax.Array:
    return jax.nn.silu(linear(x, weight)).astype(jnp.float32).sum()
