"""Runs of two processes: what each loads, how they stop, how they end, how they go on."""

from __future__ import annotations

import json
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
from tokenizers_here import own_texts, small_tokenizer
from training_here import write_text_shards

from pipelines.cli import main
from trainer.journal import Journal
from trainer.sharding import MeshError, row_share

ENVIRONMENT = {
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
        [sys.executable, *words], env={**os.environ, **ENVIRONMENT}, cwd=ROOT, text=True,
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


# --- stopping, going on, ending -------------------------------------------------------------------

TWICE = """
import os, signal, sys
from pipelines.cli import main
from pipelines.training_show import Show
from trainer import compute

step = Show.step
def stepped(self, row):
    step(self, row)
    if row["step"] == 2 and sys.argv[-1] == "1":
        os.kill(os.getpid(), signal.SIGTERM)
Show.step = stepped
stopped = main(sys.argv[1:])
Show.step = step
compute.start = lambda *_: None
print(stopped, main(sys.argv[1:]))
"""
"""A command that is stopped by a signal to the second process alone, and given again."""

RECIPE = """\
name: small
model: {width: 16, layers: 1, heads: 2, kv_heads: 1, head: 8, hidden: 32}
stages:
  - {name: core, sequence_length: 128, tokens: 1M, batch_tokens: 512, optimizer: {rate: 0.05}}
"""


def write_texts(folder: Path) -> str:
    """Three files of very different sizes: with one each, one host's would end first."""
    folder.mkdir()
    for number, (documents, text) in enumerate(zip((4, 1, 1), own_texts(), strict=False)):
        row = json.dumps({"text": text[:1500]}) + "\n"
        (folder / f"{number}.jsonl").write_text(row * documents)
    return str(folder / "*.jsonl")


def test_two_processes_stop_together_go_on_and_end_together(tmp_path, monkeypatch):
    monkeypatch.setenv("CIDERMILL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "small.yaml").write_text(RECIPE)
    (tmp_path / "tokenizer.model").write_bytes(small_tokenizer().content)
    words = ["train", "-r", str(tmp_path / "small.yaml"), "--texts", write_texts(tmp_path / "t"),
             "--tokenizer", str(tmp_path / "tokenizer.model")]  # fmt: skip
    assert main([*words, "--target", str(tmp_path / "one")]) == 0
    several = ["--target", str(tmp_path / "two"), "--coordinator", f"127.0.0.1:{free_port()}",
               "--processes", "2", "--process"]  # fmt: skip
    both = [start("-c", TWICE, *words, *several, str(number)) for number in range(2)]
    for code, out, error in finish(both):
        assert code == 0, error[-2000:]
        assert out.splitlines()[-1] == "130 0", error[-2000:]
        assert "Traceback" not in error
    assert (tmp_path / "two" / "checkpoints" / "step-00000002").is_dir()
    found = losses(tmp_path / "one")
    assert len(found) > 3
    assert losses(tmp_path / "two") == pytest.approx(found, abs=1e-4)
