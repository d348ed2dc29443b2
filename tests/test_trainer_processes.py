"""Runs of two processes: what each loads, how they stop, how they end, how they go on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import processes_child
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from training_here import write_text_shards

from trainer.journal import Journal
from trainer.sharding import MeshError, row_share

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=1 --xla_backend_optimization_level=0",
    "JAX_PLATFORMS": "cpu",
}
"""Programs of three steps are not worth optimizing."""


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def start(*words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *words], env=ENVIRONMENT, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(processes: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """The exit code and what was printed of each."""
    try:
        told = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(p.returncode, *found) for p, found in zip(processes, told, strict=True)]


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in Journal(str(folder / "losses.jsonl")).rows()]


# --- rows -----------------------------------------------------------------------------------------


def test_axes_that_span_processes_train_on_the_same_rows(tmp_path, monkeypatch):
    shards = write_text_shards(tmp_path / "shards")
    monkeypatch.setattr("trainer.step.PART_TOKENS", 64)
    processes_child.run(tmp_path / "one", shards, None)
    meshes = ("1x1x2x1", "1x1x1x2")
    port = free_port()
    child = str(ROOT / "tests" / "processes_child.py")
    both = [start(child, str(tmp_path), shards.folder, port, str(n), *meshes) for n in range(2)]
    for code, _, error in finish(both):
        assert code == 0, error[-2000:]
    for mesh in meshes:
        assert losses(tmp_path / mesh) == pytest.approx(losses(tmp_path / "one"), abs=1e-5)


def owners(mesh: tuple[int, ...], devices: int) -> np.ndarray:
    """The process of each device, where each process has ``devices``."""
    return (np.arange(np.prod(mesh)) // devices).reshape(mesh)


@given(st.tuples(*[st.integers(1, 4)] * 4), st.integers(1, 8))
def test_every_row_is_loaded_by_the_processes_that_need_it(mesh, devices):
    grid = owners(mesh, devices)
    rows = mesh[0] * mesh[1]
    try:
        shares = [row_share(grid, process) for process in range(grid.max() + 1)]
    except MeshError:
        # Some process has a part of what another one has, or a last one has fewer devices.
        along = mesh[2] * mesh[3]
        assert (devices % along and along % devices) or grid.size % devices
        return
    for process, share in enumerate(shares):
        needed = {place for place in range(rows) if process in grid.reshape(rows, -1)[place]}
        assert set(share.blocks) == needed
        assert len(share.blocks) * share.hosts == rows
    # The shares are numbered from 0, and each number stands for one set of rows.
    assert {share.host for share in shares} == set(range(shares[0].hosts))
    assert len({(share.host, share.blocks) for share in shares}) == shares[0].hosts


def test_processes_that_would_have_parts_of_each_other_s_rows_are_refused():
    with pytest.raises(MeshError, match="a mesh of 2x1x3x1 on 3 processes, which would have parts"):
        row_share(owners((2, 1, 3, 1), 2), 0)
