"""One model on eight devices, and in two processes, is the model on one device."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from trainer.sharding import ROWS, Layout, MeshError, make_layout, parse_mesh
from trainer.step import parts_of


def child(*words: str, devices: int = 8) -> subprocess.Popen:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
    }
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "sharding_child.py"), *words],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def result(process: subprocess.Popen) -> dict:
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error[-2000:]
    assert "rematerialization" not in error
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Losses and parameters on one device."""
    path = str(tmp_path_factory.mktemp("one") / "one.npz")
    return result(child("one", path, devices=1)), dict(np.load(path))


def compare(found: dict, path: str, one) -> None:
    assert found["losses"] == pytest.approx(one[0]["losses"], abs=1e-5)
    for name, value in np.load(path).items():
        np.testing.assert_allclose(value, one[1][name], atol=2e-4, err_msg=name)


@pytest.mark.parametrize(
    ("mesh", "gate"),
    [
        ("1x8x1", [8, 128]),
        ("1x4x2", [16, 64]),
        ("2x2x2", [32, 64]),
        ("2x1x2x2", [64, 64]),
    ],
)
def test_eight_devices_give_what_one_gives(mesh, gate, one, tmp_path):
    path = str(tmp_path / "found.npz")
    found = result(child(mesh, path))
    assert found["devices"] == 8
    assert found["gate"] == gate
    compare(found, path, one)


def test_two_processes_give_what_one_gives(one, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = str(tmp_path / "found.npz")
    both = [child("2x2", path, port, str(n), devices=2) for n in range(2)]
    found = [result(process) for process in both]
    assert found[0] == found[1]
    assert found[0]["devices"] == 4
    compare(found[0], path, one)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((2,), "a mesh of 2x1x1x1 needs 2 devices; there are 1"),
        ((1, 0), "a mesh of 1x0; give one to four sizes from 1: data x fsdp x tensor x sequence"),
        ((1, 1, 1, 1, 1), "give one to four sizes"),
    ],
)
def test_meshes_that_do_not_fit(sizes, message):
    with pytest.raises(MeshError, match=message):
        make_layout(sizes, [object()])


def test_meshes_as_text():
    assert parse_mesh("2x4x1") == (2, 4, 1)
    with pytest.raises(MeshError, match="a mesh of '2 by 4'; write it like 2x4x1x1"):
        parse_mesh("2 by 4")


@pytest.mark.parametrize(("rows", "length", "parts"), [(8, 512, 4), (6, 512, 3), (7, 512, 7),
                                                      (4, 2048, 4), (16, 32, 1)])  # fmt: skip
def test_a_batch_goes_through_in_parts_of_about_a_thousand_tokens(rows, length, parts):
    assert parts_of(rows, length, None) == parts


@pytest.mark.parametrize(
    ("rows", "length", "message"),
    [(6, 32, "batches of 6 windows on 4 devices for rows; give a multiple of 4"),
     (8, 33, "windows of 33 tokens on 2 devices for sequence; give a mesh whose last size")],
)  # fmt: skip
def test_batches_that_a_mesh_cannot_share(rows, length, message):
    class Eight(Layout):
        def size(self, axes):
            return {ROWS: 4, ("sequence",): 2}[axes]

    with pytest.raises(MeshError, match=message):
        parts_of(rows, length, Eight(None))
